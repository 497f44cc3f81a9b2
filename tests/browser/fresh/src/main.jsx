import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';

import 'progress-gateway/element';
import { configure } from 'progress-gateway/react';

import { App } from './App.jsx';

configure({ gateway: import.meta.env.VITE_GATEWAY });
createRoot(document.getElementById('root')).render(<StrictMode><App /></StrictMode>);
