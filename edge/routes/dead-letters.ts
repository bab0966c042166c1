import { type Context, Hono } from 'hono';
import { z } from 'zod';
import { PlatformError } from '../../shared/errors.ts';
import { isBatchId } from '../../shared/protocol/batch.ts';
import { parseFields } from '../../shared/protocol/request-issues.ts';
import type { DeadLetter } from '../../shared/protocol/webhook.ts';
import type { AppEnv } from '../app.ts';
import { methodNotAllowed } from '../errors.ts';
import type { LetterCursor } from '../transport/notices.ts';
import { accepted, resend, toDeliveryObject } from './deliveries.ts';

/** Deliveries that were given up. They outlive what they tell of. */
export const deadLetters = new Hono<AppEnv>();

const pageSchema = z.object({
  after: z.string().min(1).optional(),
  limit: z.coerce.number().int().min(1).max(1000).default(100),
});

deadLetters.get('/', async (c) => {
  const { after = null, limit } = parseFields(pageSchema, c.req.query());
  const cursor = after === null ? null : parseCursor(after);
  const query = { tenant: c.var.tenant, after: cursor, limit: limit + 1 };
  const found = await c.var.transport.notices.deadLetters(query);
  const page = found.slice(0, limit);
  const last = page.at(-1);
  return c.json({
    object: 'list',
    data: page.map(toDeadLetterObject),
    next_after: last === undefined ? after : `${last.atMs}-${last.webhookId}`,
    has_more: found.length > limit,
  });
});
deadLetters.all('/', methodNotAllowed('GET'));

deadLetters.get('/:webhookId', async (c) => {
  const letter = await findLetter(c);
  const attempts = await c.var.transport.notices.attempts(letter.requestId);
  const deliveries = attempts
    .filter(({ webhookId }) => webhookId === letter.webhookId)
    .map(toDeliveryObject);
  return c.json({ ...toDeadLetterObject(letter), deliveries });
});
deadLetters.all('/:webhookId', methodNotAllowed('GET'));

deadLetters.post('/:webhookId/redeliver', async (c) => {
  const letter = await findLetter(c);
  const { webhookId } = letter;
  const reply = await resend(c, { type: 'letter', tenant: c.var.tenant, webhookId });
  if (reply !== 'accepted') throw noLetter(webhookId);
  return accepted(c, webhookId, toSubject(letter));
});
deadLetters.all('/:webhookId/redeliver', methodNotAllowed('POST'));

/** Another tenant's letter is as unknown as none at all. */
async function findLetter(c: Context<AppEnv>): Promise<DeadLetter> {
  const webhookId = c.req.param('webhookId') ?? '';
  const letter = await c.var.transport.notices.deadLetter(c.var.tenant, webhookId);
  if (letter === null) throw noLetter(webhookId);
  return letter;
}

function noLetter(webhookId: string): PlatformError {
  const message = `there is no dead letter ${JSON.stringify(webhookId.slice(0, 80))}, or no longer`;
  return new PlatformError('not_found', message, { param: 'webhook_id' });
}

function parseCursor(after: string): LetterCursor {
  const [, atMs, webhookId] = /^(\d{1,15})-(.{1,200})$/.exec(after) ?? [];
  if (atMs !== undefined && webhookId !== undefined) return { atMs: Number(atMs), webhookId };
  const message = `after is ${JSON.stringify(after.slice(0, 80))}; it must be the next_after of a page`;
  throw new PlatformError('invalid_request', message, { param: 'after' });
}

function toDeadLetterObject(letter: DeadLetter) {
  return {
    object: 'dead_letter',
    webhook_id: letter.webhookId,
    ...toSubject(letter),
    type: letter.type,
    url: letter.url,
    at: new Date(letter.atMs).toISOString(),
    num_attempts: letter.numAttempts,
    status: letter.status,
    error: letter.error,
  };
}

function toSubject({ requestId: subject }: DeadLetter) {
  return isBatchId(subject)
    ? { job_id: null, batch_id: subject }
    : { job_id: subject, batch_id: null };
}
