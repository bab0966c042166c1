import { expect, vi } from 'vitest';
import { toTenantId } from '../../shared/ids.ts';
import { encodeEvent, type RequestEvent } from '../../shared/protocol/event.ts';
import { encodeJob, type Job } from '../../shared/protocol/job.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { type EndStatus, RequestScripts } from '../../shared/protocol/request-scripts.ts';
import { verifyDelivery } from './deliveries.ts';
import { jobOf } from './jobs.ts';
import type { Receiver } from './receivers.ts';
import type { TestRedis } from './redis.ts';

const keys = new Keys();
const secret = `whsec_${Buffer.from('a secret of at least 24 bytes!').toString('base64')}`;

interface JobOptions extends Partial<Job> {
  readonly events?: readonly string[];
  readonly payload?: 'thin' | 'full';
}

let numTenants = 0;

/** A job for one receiver, of a tenant of its own. */
export function jobFor(url: string, options: JobOptions = {}): Job {
  const { events = ['job.succeeded'], payload = 'thin', ...overrides } = options;
  numTenants += 1;
  return jobOf({
    tenant: toTenantId(`tenant-${numTenants}`),
    background: true,
    webhook: { url, events: [...events], secret, payload },
    ...overrides,
  } as Partial<Job>);
}

export const usage = {
  promptTokens: 3,
  cachedTokens: 0,
  completionTokens: 2,
  acceptedPredictionTokens: 0,
  rejectedPredictionTokens: 0,
};

interface Ending {
  readonly last: RequestEvent;
  readonly status: EndStatus;
}

const timings = { queuedMs: 1, prefillMs: 1, decodeMs: 1 };
const done = { type: 'done', usage, timings, speculation: [] } satisfies RequestEvent;
const SUCCESS: Ending = { last: done, status: 'succeeded' };

/** Every delivery, verified by the libraries that receivers use. */
export function verified({ received }: Receiver) {
  return received.map((each) => {
    return { id: each.headers['webhook-id'], ...verifyDelivery(each, secret) };
  });
}

export async function waitForCount(receiver: Receiver, count: number): Promise<void> {
  await vi.waitFor(() => expect(receiver.received.length).toBeGreaterThanOrEqual(count), 20_000);
}

/** Jobs with a webhook, whose edge and worker the test is. */
export class WebhookJobs {
  readonly scripts: RequestScripts;
  readonly #client: TestRedis['client'];
  readonly #retentionMs: number;

  /** @param retentionMs how long a job is kept after its end */
  constructor({ client }: TestRedis, retentionMs = 60_000) {
    this.#client = client;
    this.#retentionMs = retentionMs;
    this.scripts = new RequestScripts(client, keys, { isCluster: false, retentionMs });
  }

  async submit(job: Job): Promise<void> {
    await this.#client.zadd(keys.pendingJobs, Date.now() + 5000, job.id);
    const keepMs = this.#retentionMs;
    await this.scripts.create(job.id, encodeJob(job), { keepMs, isNotified: true });
  }

  /** What a worker does: claims, says each text, ends. */
  async work(
    job: Job,
    texts: readonly string[] = ['Hello', ' there'],
    { last, status }: Ending = SUCCESS,
  ): Promise<void> {
    const claim = await this.scripts.claim(job.id, 'worker', 2);
    if (claim.type !== 'claimed') throw new Error(claim.type);
    const says = texts.map((text, i) => {
      const finishReason = i === texts.length - 1 ? ('stop' as const) : null;
      return encodeEvent({
        type: 'tokens',
        choice: 0,
        tokenIds: [i],
        text,
        logprobs: null,
        finishReason,
      });
    });
    const { epoch } = claim;
    await this.scripts.append(job.id, { epoch, firstSeq: 0, payloads: says });
    const payloads = [encodeEvent(last)];
    await this.scripts.finish(job.id, { epoch, firstSeq: says.length, payloads, status });
  }

  async attemptsOf(job: Job): Promise<{ status: number | null; error: string | null }[]> {
    const attempts = await this.#client.lrange(keys.deliveriesOf(job.id), 0, -1);
    return attempts.map((attempt) => JSON.parse(attempt));
  }

  /** As if the time were over for which it is kept. */
  async expire({ id }: Job): Promise<void> {
    const { state, log, claims, outbox } = keys.request(id);
    await this.#client.del(state, log, claims, outbox);
  }

  async waitForNoDeadLetter({ tenant }: Job): Promise<void> {
    const { index } = keys.deadLettersOf(tenant);
    await vi.waitFor(async () => expect(await this.#client.zcard(index)).toBe(0), 20_000);
  }

  async waitForDeadLetter(job: Job): Promise<unknown> {
    const { index, letter } = keys.deadLettersOf(job.tenant);
    await vi.waitFor(async () => expect(await this.#client.zcard(index)).toBe(1), 20_000);
    const [id = ''] = await this.#client.zrange(index, 0, '-1');
    return JSON.parse((await this.#client.hget(letter(id), 'letter')) ?? 'null');
  }
}
