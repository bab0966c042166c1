import { Hono } from 'hono';
import { z } from 'zod';
import { parseFields } from '../../shared/protocol/request-issues.ts';
import { type DeadLetter, toEventObject } from '../../shared/protocol/webhook.ts';
import type { AppEnv } from '../app.ts';
import { methodNotAllowed } from '../errors.ts';

const pageSchema = z.object({
  after: z.string().min(1).optional(),
  limit: z.coerce.number().int().min(1).max(1000).default(100),
});

/** Everything the tenant's webhooks were told, for receivers that were down. */
export const events = new Hono<AppEnv>();

events.get('/', async (c) => {
  const { after = null, limit } = parseFields(pageSchema, c.req.query());
  const query = { tenant: c.var.tenant, after, limit: limit + 1 };
  const found = await c.var.transport.jobs.notices(query);
  const page = found.slice(0, limit);
  return c.json({
    object: 'list',
    data: page.map(({ notice }) => toEventObject(notice)),
    // Also where nothing is new: whoever asks again goes on from here.
    next_after: page.at(-1)?.cursor ?? after,
    has_more: found.length > limit,
  });
});
events.all('/', methodNotAllowed('GET'));

/** Deliveries that were given up. */
export const deadLetters = new Hono<AppEnv>();

deadLetters.get('/', async (c) => {
  const { after = null, limit } = parseFields(pageSchema, c.req.query());
  const query = { tenant: c.var.tenant, after, limit: limit + 1 };
  const found = await c.var.transport.jobs.deadLetters(query);
  const page = found.slice(0, limit);
  return c.json({
    object: 'list',
    data: page.map(toDeadLetterObject),
    next_after: page.at(-1)?.webhookId ?? after,
    has_more: found.length > limit,
  });
});
deadLetters.all('/', methodNotAllowed('GET'));

function toDeadLetterObject(letter: DeadLetter) {
  return {
    object: 'dead_letter',
    webhook_id: letter.webhookId,
    job_id: letter.requestId,
    type: letter.type,
    url: letter.url,
    at: new Date(letter.atMs).toISOString(),
    num_attempts: letter.numAttempts,
    status: letter.status,
    error: letter.error,
  };
}
