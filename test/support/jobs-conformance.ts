import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { JobQuery, JobStore } from '../../edge/transport/jobs.ts';
import type { Transport } from '../../edge/transport/transport.ts';
import { createRequestId, type TenantId, toTenantId } from '../../shared/ids.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { doneOf } from './fake-transport.ts';
import { storiesCard, storiesFiles } from './stories.ts';
import { jobOf, type TransportHarness, tokensOf } from './transport-conformance.ts';

const never = new AbortController().signal;
const done = doneOf({ promptTokens: 2, completionTokens: 1 });
const webhook = {
  url: 'https://example.com/hook',
  events: ['job.succeeded'],
  payload: 'thin',
} as const;

let numTenants = 0;

function newTenant(): TenantId {
  numTenants += 1;
  return toTenantId(`tenant-${numTenants}`);
}

function backgroundOf(fields: Partial<Job> = {}): Job {
  return jobOf({ background: true, onDisconnect: 'continue', ...fields });
}

const all = { after: null, limit: 100, status: null, endpoint: null, metadata: {} } as const;

/** What every transport must do for requests that nobody waits for. */
export function describeJobs(name: string, open: () => Promise<TransportHarness>): void {
  describe(`${name} keeps jobs, and`, () => {
    let harness: TransportHarness;
    let transport: Transport;
    let jobs: JobStore;

    beforeAll(async () => {
      harness = await open();
      ({ transport } = harness);
      ({ jobs } = transport);
      await harness.register(storiesCard, storiesFiles);
    });
    afterAll(() => harness?.[Symbol.asyncDispose]());

    async function end(job: Job): Promise<void> {
      await harness.append(job.id, await harness.claim(job.id), [tokensOf('a', 'stop'), done]);
    }

    async function enqueueAll(count: number, fields: Partial<Job>): Promise<Job[]> {
      const firstMs = Date.now() - count;
      const made = Array.from({ length: count }, (_, i) =>
        backgroundOf({ ...fields, createdMs: firstMs + i }),
      );
      for (const job of made) await jobs.enqueue(job);
      return made;
    }

    const idsOf = (found: readonly { readonly id: string }[]) => found.map(({ id }) => id);

    async function list(query: Partial<JobQuery> & { readonly tenant: TenantId }) {
      return jobs.list({ ...all, ...query });
    }

    it('queues a job that can be claimed, read and found like any other', async () => {
      const tenant = newTenant();
      const job = backgroundOf({
        tenant,
        metadata: { a: 'b' },
        webhook: { ...webhook, events: [] },
      });
      await jobs.enqueue(job);
      expect(await jobs.find(job.id)).toMatchObject({ status: 'queued', job });
      await end(job);

      const state = await jobs.find(job.id);
      expect(state).toMatchObject({ status: 'succeeded' });
      expect(state?.timesMs.started).toBeGreaterThanOrEqual(state?.timesMs.created ?? Infinity);
      expect(state?.timesMs.ended).toBeGreaterThanOrEqual(state?.timesMs.started ?? Infinity);
      const events = [];
      for await (const { event } of await transport.open(job.id, null, never)) events.push(event);
      expect(events).toEqual([tokensOf('a', 'stop'), done]);
    });

    it('queues a job once, however often that is asked', async () => {
      const tenant = newTenant();
      const job = backgroundOf({ tenant });
      await Promise.all([jobs.enqueue(job), jobs.enqueue(job), jobs.enqueue(job)]);

      expect(idsOf((await list({ tenant })).jobs)).toEqual([job.id]);
      expect(await jobs.place(job)).not.toBeNull();
    });

    it('tells the place in the queue, by priority and then by arrival', async () => {
      const model = 'of-its-own';
      await harness.register({ ...storiesCard, name: model }, storiesFiles, 4);
      const [first, second, urgent] = [
        backgroundOf({ model, priority: 10 }),
        backgroundOf({ model, priority: 10 }),
        backgroundOf({ model, priority: 1 }),
      ];
      for (const job of [first, second, urgent]) await jobs.enqueue(job);

      const places = await Promise.all([first, second, urgent].map((job) => jobs.place(job)));
      expect(places.map((place) => place?.numAhead)).toEqual([1, 2, 0]);
      expect(places[0]?.ratePerSecond).toBe(4);
      await transport.cancel(first.id);
      expect(await jobs.place(first)).toBeNull();
      expect(await jobs.place(second)).toMatchObject({ numAhead: 1 });
    });

    it('ends a job that waited beyond its deadline as expired, and not as cancelled', async () => {
      const late = backgroundOf({ deadlineMs: Date.now() - 1 });
      const called = backgroundOf();
      for (const job of [late, called]) await jobs.enqueue(job);
      await transport.cancel(called.id);

      expect(await jobs.find(late.id)).toMatchObject({ status: 'expired' });
      expect(await jobs.find(called.id)).toMatchObject({ status: 'cancelled' });
    });

    it('lists the jobs of one tenant, newest first, page by page', async () => {
      const tenant = newTenant();
      const made = await enqueueAll(45, { tenant });
      await enqueueAll(2, { tenant: newTenant() });
      const newestFirst = idsOf(made).toReversed();

      const seen: string[] = [];
      let after: string | null = null;
      const sizes: number[] = [];
      for (let hasMore = true; hasMore; ) {
        const page = await list({ tenant, after, limit: 20 });
        seen.push(...idsOf(page.jobs));
        sizes.push(page.jobs.length);
        ({ lastId: after, hasMore } = page);
      }
      expect(seen).toEqual(newestFirst);
      expect(sizes).toEqual([20, 20, 5]);
    });

    it('lists only what is asked for, and knows when there is no more of it', async () => {
      const tenant = newTenant();
      const [a, b, c] = await enqueueAll(3, { tenant });
      const chat = backgroundOf({ tenant, endpoint: 'chat', metadata: { run: '7', kind: 'x' } });
      await jobs.enqueue(chat);
      await transport.cancel(b!.id);

      const found = async (query: Partial<JobQuery>) =>
        idsOf((await list({ tenant, ...query })).jobs);
      expect(await found({ status: 'cancelled' })).toEqual([b!.id]);
      expect(await found({ status: 'running' })).toEqual([]);
      expect(await found({ endpoint: 'chat' })).toEqual([chat.id]);
      expect(await found({ metadata: { run: '7' } })).toEqual([chat.id]);
      expect(await found({ metadata: { run: '8' } })).toEqual([]);
      expect(await found({ endpoint: 'completions', status: 'queued' })).toEqual([c!.id, a!.id]);
      expect(await list({ tenant, endpoint: 'completions', limit: 3 })).toMatchObject({
        hasMore: false,
      });
      expect(await list({ tenant, endpoint: 'completions', limit: 2 })).toMatchObject({
        hasMore: true,
        lastId: b!.id,
      });
    });

    it('goes on after a job that was forgotten meanwhile, and after no unknown one', async () => {
      const tenant = newTenant();
      const [first, second] = await enqueueAll(2, { tenant });
      await transport.cancel(second!.id);
      await jobs.forget(second!);

      expect(idsOf((await list({ tenant, after: second!.id })).jobs)).toEqual([first!.id]);
      const unknown = list({ tenant, after: createRequestId() });
      await expect(unknown).rejects.toMatchObject({ code: 'invalid_request', param: 'after' });
    });

    it('forgets a job that has ended, and no other', async () => {
      const job = backgroundOf({ tenant: newTenant() });
      await jobs.enqueue(job);
      expect(await jobs.forget(job)).toBe('open');
      await end(job);

      expect(await jobs.forget(job)).toBe('forgotten');
      expect(await jobs.forget(job)).toBe('unknown');
      expect(await jobs.find(job.id)).toBeNull();
      expect((await list({ tenant: job.tenant })).jobs).toEqual([]);
      await expect(transport.open(job.id, null, never)).rejects.toMatchObject({
        code: 'not_found',
      });
    });
  });
}
