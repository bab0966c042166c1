import { createMiddleware } from 'hono/factory';
import { createRequestId } from '../../shared/ids.ts';
import type { AppEnv } from '../app.ts';

/** Gives every call an id and puts it on the response, errors included. */
export const nameRequest = createMiddleware<AppEnv>(async (c, next) => {
  c.set('requestId', createRequestId());
  await next();
  c.res.headers.set('x-request-id', c.var.requestId);
});
