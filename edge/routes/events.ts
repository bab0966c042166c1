import { Hono } from 'hono';
import { z } from 'zod';
import { parseFields } from '../../shared/protocol/request-issues.ts';
import { toEventObject } from '../../shared/protocol/webhook.ts';
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
  const found = await c.var.transport.notices.list(query);
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
