import { StrictMode } from 'react';
import { createRoot, hydrateRoot } from 'react-dom/client';

import { configure } from '../../../web/src/react.js';
import { views } from './app.jsx';

const root = document.getElementById('root');
const { gateway, view, strict } = root.dataset;
configure({ gateway });
const View = views[view];
const tree = strict ? <StrictMode><View /></StrictMode> : <View />;
if (root.firstElementChild === null) createRoot(root).render(tree);
else hydrateRoot(root, tree);
