import { Hono } from 'hono';
import { PlatformError } from '../../shared/errors.ts';
import type { AppEnv } from '../app.ts';
import { methodNotAllowed } from '../errors.ts';

export const health = new Hono<AppEnv>();

health.get('/healthz', (c) => c.json({ status: 'ok' }));
health.all('/healthz', methodNotAllowed('GET'));

/** Ready means that a request sent now would be generated. */
health.get('/readyz', async (c) => {
  const { transport } = c.var;
  await transport.ping();
  const served = await transport.models();
  const names = served.filter(({ numWorkers }) => numWorkers > 0).map(({ card }) => card.name);
  if (names.length === 0) throw new PlatformError('no_worker', 'no worker serves any model');
  return c.json({ status: 'ready', models: [...new Set(names)] });
});
health.all('/readyz', methodNotAllowed('GET'));
