/** A connection in a simulated environment, for the tests of `connection.js`. */

import { createConnection } from '../src/connection.js';
import { fakeWorld, tick } from './world.js';

export const GATEWAY_URL = 'ws://gateway.test/ws';

export function startConnection(options) {
  const world = fakeWorld(options);
  const connection = createConnection(GATEWAY_URL, world.environment);
  const states = [];
  connection.observe(({ state }) => states.at(-1) !== state && states.push(state));
  return { world, connection, states };
}

/** A live connection that watches `jobs`, after the first sync was answered. */
export async function liveConnection(...jobs) {
  const page = startConnection();
  const received = [];
  page.received = received;
  page.unwatch = jobs.map((job) => page.connection.watch(job, (watched) => received.push(watched)));
  page.world.socket.welcome();
  answerCommands(page.world.socket);
  await tick();
  return page;
}

/** Answer every subscription command received so far, and return all received commands. */
export function answerCommands(socket) {
  const commands = socket.received();
  for (const { id } of commands.filter((command) => command.id)) {
    socket.deliver({ type: 'subscriptions', id, added: [], removed: [], unchanged: 0, denied: {} });
  }
  return commands;
}

export const typesOf = (commands) => commands.map(({ type }) => type);

/** A connection with this token, or provider of tokens. */
export function connectionWithToken(token) {
  const world = fakeWorld();
  const connection = createConnection(GATEWAY_URL, { ...world.environment, token });
  return { world, connection };
}
