import { Hono } from 'hono';
import { PlatformError } from '../../shared/errors.ts';
import type { AppEnv } from '../app.ts';
import { bestByName } from '../catalog.ts';
import { methodNotAllowed } from '../errors.ts';
import type { ServedModel } from '../transport/transport.ts';

export const models = new Hono<AppEnv>();

models.get('/', async (c) => {
  const served = await c.var.transport.models();
  return c.json({ object: 'list', data: [...bestByName(served).values()].map(toModel) });
});
models.all('/', methodNotAllowed('GET'));

// Names of models may hold slashes, as on the hub they come from.
models.get('/:name{.+}', async (c) => {
  const name = c.req.param('name');
  const model = bestByName(await c.var.transport.models()).get(name);
  if (model !== undefined) return c.json(toModel(model));
  const message = `the model ${JSON.stringify(name)} does not exist`;
  throw new PlatformError('model_not_found', message, { param: 'model' });
});
models.all('/:name{.+}', methodNotAllowed('GET'));

function toModel({ card, numWorkers }: ServedModel) {
  return {
    id: card.name,
    object: 'model',
    created: Math.floor(card.createdMs / 1000),
    owned_by: 'rivulet',
    architecture: card.architecture,
    context_length: card.maxSequenceTokens,
    max_model_len: card.maxSequenceTokens, // the name that clients of vLLM know
    system_fingerprint: card.fingerprint,
    num_workers: numWorkers,
  };
}
