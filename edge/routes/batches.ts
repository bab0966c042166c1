import { type Context, Hono } from 'hono';
import { z } from 'zod';
import { PlatformError } from '../../shared/errors.ts';
import {
  BATCH_ENDPOINTS,
  type Batch,
  type BatchSpec,
  type BatchStatus,
  COMPLETION_WINDOW,
  COMPLETION_WINDOW_MS,
  isBatchId,
} from '../../shared/protocol/batch.ts';
import { createTimedHex } from '../../shared/protocol/file.ts';
import { parseFields } from '../../shared/protocol/request-issues.ts';
import { siftBody } from '../../shared/protocol/request-neutral.ts';
import {
  batchWebhookRequestSchema,
  metadataSchema,
} from '../../shared/protocol/webhook-request.ts';
import { setIgnoredHeader } from '../admit.ts';
import type { AppEnv } from '../app.ts';
import { toBatchObject } from '../batches/batch-object.ts';
import { readJson } from '../body.ts';
import { methodNotAllowed } from '../errors.ts';
import { firstIdOf, isRetry } from '../idempotency.ts';
import { toWebhook } from '../jobs/background.ts';
import { cursorOf, findFile, toList } from './files.ts';

export const batches = new Hono<AppEnv>();

const createFields = {
  input_file_id: z.string(),
  endpoint: z.enum(BATCH_ENDPOINTS),
  completion_window: z.enum([COMPLETION_WINDOW]),
  metadata: metadataSchema.optional(),
  webhook: batchWebhookRequestSchema.optional(),
  output_expires_after: z
    .object({
      anchor: z.enum(['created_at']),
      seconds: z
        .int()
        .min(3600)
        .max(30 * 86_400),
    })
    .optional(),
} as const;

const createSchema = z.object(createFields);

const listSchema = z.object({
  after: cursorOf(isBatchId, 'a batch').optional(),
  limit: z.coerce.number().int().min(1).max(100).default(20),
});

batches.post('/', async (c) => {
  const { options, transport } = c.var;
  const body = await readJson(c.req.raw, options.maxBodyBytes);
  const { fields, ignored } = siftBody(body, createFields);
  const parsed = parseFields(createSchema, fields);
  setIgnoredHeader(c, ignored);
  const webhook = parsed.webhook === undefined ? null : toWebhook(c, parsed.webhook);
  const ownId = `batch_${createTimedHex(options.now())}`;
  const id = await firstIdOf(c, ownId, body);
  const first = id === ownId ? null : await transport.batches.find(id);
  // Whoever made it may have died before it was queued.
  const isMade = first !== null && first.status !== 'validating';
  const spec = first?.spec ?? (await toSpec(c, id, parsed, webhook));
  if (!isMade) await transport.batches.create(spec, options.maxOpenBatches);
  const batch = await findBatch(c, id);
  const object = toBatchObject(batch);
  // Of a secret that was drawn here the client knows from nowhere else.
  const secret = parsed.webhook?.secret === undefined ? batch.spec.webhook?.secret : undefined;
  return c.json({
    ...object,
    webhook: object.webhook && { ...object.webhook, ...(secret && { secret }) },
  });
});

/** @throws {PlatformError} `invalid_request` when the input file cannot be one */
async function toSpec(
  c: Context<AppEnv>,
  id: string,
  asked: z.infer<typeof createSchema>,
  webhook: BatchSpec['webhook'],
): Promise<BatchSpec> {
  const { options, tenant } = c.var;
  const file = await findFile(c, asked.input_file_id).catch((error: unknown) => {
    if (!(error instanceof PlatformError) || error.code !== 'not_found') throw error;
    throw new PlatformError('invalid_request', error.message, { param: 'input_file_id' });
  });
  if (file.purpose !== 'batch') {
    const message = `${file.id} has the purpose ${file.purpose}; it must be batch`;
    throw new PlatformError('invalid_request', message, { param: 'input_file_id' });
  }
  const createdMs = options.now();
  const expiresMs = createdMs + COMPLETION_WINDOW_MS;
  if (file.expiresMs < expiresMs) {
    const goneAt = new Date(file.expiresMs).toISOString();
    const message = `${file.id} is kept until ${goneAt}; it must be for the ${COMPLETION_WINDOW} of the completion window`;
    throw new PlatformError('invalid_request', message, { param: 'input_file_id' });
  }
  return {
    version: 1,
    id,
    tenant,
    inputFileId: file.id,
    endpoint: asked.endpoint,
    metadata: asked.metadata ?? null,
    webhook,
    createdMs,
    expiresMs,
    outputLifeMs: (asked.output_expires_after?.seconds ?? options.files.lifeMs / 1000) * 1000,
  };
}

batches.get('/', async (c) => {
  const { after, limit } = parseFields(listSchema, c.req.query());
  const query = { tenant: c.var.tenant, after: after ?? null, limit: limit + 1 };
  const found = await c.var.transport.batches.list(query);
  return c.json(toList(found.map(toBatchObject), limit));
});
batches.all('/', methodNotAllowed('GET, POST'));

batches.get('/:id', async (c) => c.json(toBatchObject(await findBatch(c))));
batches.all('/:id', methodNotAllowed('GET'));

batches.post('/:id/cancel', async (c) => {
  const { spec, status } = await findBatch(c);
  if (CANCELLABLE.has(status)) {
    await firstIdOf(c, spec.id, null);
    await c.var.transport.batches.cancel(spec.id);
  } else if (!(await isRetry(c))) {
    const message = `the batch is ${status}; only one that is validating or in progress can be cancelled`;
    throw new PlatformError('conflict', message, { param: 'id' });
  }
  return c.json(toBatchObject(await findBatch(c)));
});
batches.all('/:id/cancel', methodNotAllowed('POST'));

const CANCELLABLE: ReadonlySet<BatchStatus> = new Set(['validating', 'in_progress', 'cancelling']);

/** Another tenant's batch is as unknown as none at all. */
export async function findBatch(c: Context<AppEnv>, id = c.req.param('id') ?? ''): Promise<Batch> {
  const batch = isBatchId(id) ? await c.var.transport.batches.find(id) : null;
  if (batch !== null && batch.spec.tenant === c.var.tenant) return batch;
  const message = `the batch ${JSON.stringify(id.slice(0, 80))} does not exist or is no longer kept`;
  throw new PlatformError('not_found', message, { param: 'id' });
}
