import { once } from 'node:events';
import type { Hono } from 'hono';
import type { AppEnv } from './app.ts';
import { loadConfig } from './config.ts';
import { consoleLog } from './log.ts';
import { type BoardOptions, createBoard, loadBoardConfig } from './node-board.ts';
import { EncoderThread } from './node-encoder.ts';
import { listen } from './node-server.ts';
import { connectRedis } from './transport/redis-connection.ts';
import { openRedisTransport, type RedisTransport } from './transport/redis-transport.ts';

/**
 * `npm run edge`: serves until told to stop, then lets streams end. A second signal ends it at
 * once.
 */
async function main(): Promise<void> {
  const config = loadConfig(process.env);
  const board = loadBoardConfig(process.env);
  const shutdown = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => shutdown.abort());
  }

  const { redisUrl } = config;
  await using transport = await openRedisTransport(redisUrl, config);
  using encoders = new EncoderThread();
  const app = { ...config.app, createEncoder: encoders.createEncoder };
  using opened = board && (await openBoard(redisUrl, transport, board));
  const server = await listen(transport, { ...config, app, ...opened });
  consoleLog('edge_ready', { port: server.port });
  if (!shutdown.signal.aborted) await once(shutdown.signal, 'abort');
  await server.close(config.graceMs);
  consoleLog('edge_stopped', {});
}

/** On a connection of its own, so that an operator's look delays nobody. */
async function openBoard(redisUrl: string, transport: RedisTransport, options: BoardOptions) {
  const { command, subscriber } = await connectRedis(redisUrl);
  subscriber.disconnect();
  const board = createBoard(command, transport, options);
  return {
    extend(app: Hono<AppEnv>) {
      app.route(options.path, board);
    },
    [Symbol.dispose]: () => command.disconnect(),
  };
}

try {
  await main();
  process.exit(0); // a connection that is still being looked for would keep it
} catch (error) {
  console.error(error instanceof Error ? `edge: ${error.message}` : error);
  process.exit(1);
}
