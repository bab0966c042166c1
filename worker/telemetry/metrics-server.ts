import { once } from 'node:events';
import { createServer } from 'node:http';
import type { Registry } from 'prom-client';

/**
 * Serves `GET /metrics` until disposed.
 *
 * @param port `null` for no server, 0 for any port that is free
 * @throws {Error} when the port is taken
 */
export async function serveMetrics(
  registry: Registry,
  port: number | null,
): Promise<AsyncDisposable & { readonly port: number | null }> {
  if (port === null) return { port, async [Symbol.asyncDispose]() {} };
  const server = createServer((request, response) => {
    if (request.url !== '/metrics') {
      response.writeHead(404).end();
      return;
    }
    registry.metrics().then(
      (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
      (error: unknown) => response.writeHead(500).end(String(error)),
    );
  });
  server.listen(port);
  try {
    await once(server, 'listening');
  } catch (cause) {
    throw new Error(`cannot serve metrics on port ${port}: set METRICS_PORT to another`, { cause });
  }
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}
