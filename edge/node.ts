import { once } from 'node:events';
import { loadConfig } from './config.ts';
import { consoleLog } from './log.ts';
import { listen } from './node-server.ts';
import { openRedisTransport } from './transport/redis-transport.ts';

/** `npm run edge`: serves until told to stop, then lets streams end. A second signal ends it at once. */
async function main(): Promise<void> {
  const config = loadConfig(process.env);
  const shutdown = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => shutdown.abort());
  }

  const { redisUrl, maxQueued } = config;
  await using transport = await openRedisTransport(redisUrl, { maxQueued });
  const server = await listen(transport, config);
  consoleLog('edge_ready', { port: server.port });
  if (!shutdown.signal.aborted) await once(shutdown.signal, 'abort');
  await server.close(config.graceMs);
  consoleLog('edge_stopped', {});
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? `edge: ${error.message}` : error);
  process.exit(1);
}
