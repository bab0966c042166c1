import type { Context } from 'hono';
import { PlatformError } from '../../shared/errors.ts';
import type { RequestId } from '../../shared/ids.ts';
import { isTerminal } from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { Envelope } from '../../shared/protocol/request-job.ts';
import type { Webhook } from '../../shared/protocol/webhook.ts';
import { drawSecret } from '../../shared/protocol/webhook-secret.ts';
import { faultOfUrl } from '../../shared/protocol/webhook-url.ts';
import { callOff } from '../abandon.ts';
import { setSeedHeader } from '../admit.ts';
import type { AppEnv } from '../app.ts';
import { firstJobOf } from '../idempotency.ts';
import { applyPreferredWait } from '../prefer.ts';
import { describeJob, describeQueued, findJob } from './find.ts';

export interface Submission {
  readonly envelope: Envelope;
  /** What the client sent, by which a retry with the same idempotency key is known. */
  readonly body: unknown;
  /** Makes the job, unless an earlier call did. */
  readonly make: () => Promise<Job>;
}

/**
 * Queues a job that nobody waits for, unless its client prefers to for a while, and says what is
 * known of it.
 */
export async function answerInBackground(
  c: Context<AppEnv>,
  { envelope, body, make }: Submission,
): Promise<Response> {
  const own = await firstJobOf(c, body, async () => toBackgroundJob(c, await make(), envelope));
  const job = await c.var.transport.jobs.enqueue(own).catch((error: unknown) => {
    callOff(c, own, error);
    throw error;
  });
  setSeedHeader(c, job);
  c.header('location', `/v1/jobs/${job.id}`);
  const { object, isDone } = await follow(c, job);
  // Of a secret that was drawn here the client knows from nowhere else.
  const secret = envelope.webhook?.secret === undefined ? job.webhook?.secret : undefined;
  const webhook = object.webhook && { ...object.webhook, ...(secret && { secret }) };
  return c.json({ ...object, webhook }, isDone ? 200 : 202);
}

/** What is known of a job that is queued: that much, whatever fails from here on. */
async function follow(c: Context<AppEnv>, job: Job) {
  try {
    const hasWaited = await waitForEnd(c, job.id);
    const state = await findJob(c, job.id);
    const isDone = hasWaited && state.timesMs.ended !== null;
    return { object: await describeJob(c, state), isDone };
  } catch (cause) {
    if (!(cause instanceof PlatformError)) throw cause;
    c.var.log('job_not_followed', { id: job.id, cause });
    return { object: describeQueued(job), isDone: false };
  }
}

/** Waits for as long as the client prefers. @returns whether it prefers any waiting */
export async function waitForEnd(c: Context<AppEnv>, id: RequestId): Promise<boolean> {
  const seconds = applyPreferredWait(c);
  if (seconds === 0) return false;
  const { options, transport } = c.var;
  const signal = AbortSignal.any([
    c.req.raw.signal,
    options.shutdown,
    AbortSignal.timeout(seconds * 1000),
  ]);
  for await (const { event } of await transport.open(id, null, signal)) {
    if (isTerminal(event)) break;
  }
  return true;
}

function toBackgroundJob(c: Context<AppEnv>, job: Job, { webhook, metadata }: Envelope): Job {
  const background: Job = {
    ...job,
    background: true,
    onDisconnect: 'continue',
    keepMs: c.var.options.jobRetentionMs,
    metadata,
  };
  return webhook === null ? background : { ...background, webhook: toWebhook(c, webhook) };
}

/** @throws {PlatformError} `invalid_request` for a URL that must not be sent to */
export function toWebhook(c: Context<AppEnv>, webhook: Webhook): Webhook {
  const { isInsecureAllowed, tenantsWithSecret } = c.var.options.webhooks;
  const fault = faultOfUrl(webhook.url, { isInsecureAllowed });
  if (fault !== null) {
    throw new PlatformError('invalid_request', `webhook.url ${fault}`, { param: 'webhook.url' });
  }
  const isSigned = webhook.secret !== undefined || tenantsWithSecret.has(c.var.tenant);
  return isSigned ? webhook : { ...webhook, secret: drawSecret() };
}
