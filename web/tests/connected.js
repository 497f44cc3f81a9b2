/** A connection in a simulated environment, for the tests of `connection.js`. */

import { createConnection } from '../src/connection.js';
import { fakeWorld, tick } from './world.js';

export const URL_ = 'ws://gateway.test/ws';

export function start(options) {
  const world = fakeWorld(options);
  const connection = createConnection(URL_, world.environment);
  const states = [];
  connection.observe(({ state }) => states.at(-1) !== state && states.push(state));
  return { world, connection, states };
}

/** A live connection that watches `jobs`, after the first sync was answered. */
export async function live(...jobs) {
  const it = start();
  const received = [];
  it.received = received;
  it.unwatch = jobs.map((job) => it.connection.watch(job, (watched) => received.push(watched)));
  it.world.socket.welcome();
  answer(it.world.socket);
  await tick();
  return it;
}

/** Answer every subscription command received so far, and return all received commands. */
export function answer(socket) {
  const commands = socket.received();
  for (const { id } of commands.filter((command) => command.id)) {
    socket.deliver({ type: 'subscriptions', id, added: [], removed: [], unchanged: 0, denied: {} });
  }
  return commands;
}

export const types = (commands) => commands.map(({ type }) => type);

/** A connection with this token, or provider of tokens. */
export function withToken(token) {
  const world = fakeWorld();
  const connection = createConnection(URL_, { ...world.environment, token });
  return { world, connection };
}
