import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Transport } from '../../edge/transport/transport.ts';
import { createRequestId, type RequestId, toTenantId } from '../../shared/ids.ts';
import type { EventId, LoggedEvent, RequestEvent } from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { ModelCard, TokenizerFiles } from '../../shared/protocol/model-card.ts';
import { doneOf } from './fake-transport.ts';
import { jobOf as scriptedJobOf } from './jobs.ts';
import { storiesCard, storiesFiles } from './stories.ts';

/** A transport with the worker's end of it in the test's hand. */
export interface TransportHarness extends AsyncDisposable {
  readonly transport: Transport;
  /** Registers the model as a living worker would. */
  register(card: ModelCard, files: TokenizerFiles, ratePerSecond?: number): Promise<void>;
  /** Claims a submitted request. @returns its epoch */
  claim(id: RequestId): Promise<number>;
  /** Appends events, in order, as that claim. */
  append(id: RequestId, epoch: number, events: readonly RequestEvent[]): Promise<void>;
}

const never = new AbortController().signal;

/** A job for the queue of the embedded model. */
export function jobOf(fields: Partial<Job> = {}): Job {
  const { name: model, fingerprint } = storiesCard;
  return scriptedJobOf({ model, fingerprint, priority: 1000, prompts: [[0, 416]], ...fields });
}

export function tokensOf(text: string, finishReason: 'stop' | null = null): RequestEvent {
  return { type: 'tokens', choice: 0, tokenIds: [5], text, logprobs: null, finishReason };
}

const done = doneOf({ promptTokens: 2, completionTokens: 3 });
const story = [tokensOf('a'), tokensOf('b'), tokensOf('c', 'stop'), done];

const eventsOf = (logged: readonly LoggedEvent[]) => logged.map(({ event }) => event);
const idsOf = (logged: readonly LoggedEvent[]) => logged.map(({ id }) => id);

/** What every transport must do, the one in memory as well as the real one. */
export function describeTransport(name: string, open: () => Promise<TransportHarness>): void {
  describe(`${name} is a transport that`, () => {
    let harness: TransportHarness;
    let transport: Transport;

    beforeAll(async () => {
      harness = await open();
      transport = harness.transport;
      await harness.register(storiesCard, storiesFiles);
    });
    afterAll(() => harness[Symbol.asyncDispose]());

    /** Submits, claims and appends the whole story. */
    async function tell(fields: Partial<Job> = {}) {
      const job = jobOf(fields);
      const live = Array.fromAsync(await transport.submit(job, never));
      const epoch = await harness.claim(job.id);
      await harness.append(job.id, epoch, story);
      return { job, epoch, logged: await live };
    }

    it('answers a ping', async () => {
      await expect(transport.ping()).resolves.toBeUndefined();
    });

    it('lists a registered model with its workers, and hands out its tokenizer', async () => {
      const served = await transport.models();
      const stories = served.find(({ card }) => card.name === storiesCard.name);

      expect(stories?.card).toEqual(storiesCard);
      expect(stories?.numWorkers).toBeGreaterThan(0);
      expect(await transport.tokenizerFiles(storiesCard.tokenizerDigest)).toEqual(storiesFiles);
    });

    it('refuses a tokenizer that is not stored', async () => {
      await expect(transport.tokenizerFiles('no-such')).rejects.toMatchObject({
        code: 'unavailable',
      });
    });

    it('hands the submitter every event, in order, then ends', async () => {
      const { epoch, logged } = await tell();

      expect(eventsOf(logged)).toEqual(story);
      expect(idsOf(logged)).toEqual([0, 1, 2, 3].map((seq) => ({ epoch, seq })));
    });

    it('hands over events one by one, as they come', async () => {
      const job = jobOf();
      const events = (await transport.submit(job, never))[Symbol.asyncIterator]();
      const epoch = await harness.claim(job.id);

      for (const event of story) {
        await harness.append(job.id, epoch, [event]);
        expect((await events.next()).value).toMatchObject({ event });
      }
      expect((await events.next()).done).toBe(true);
    });

    it('misses nothing that was said before the submitter began to read', async () => {
      const job = jobOf();
      const events = await transport.submit(job, never);
      await harness.append(job.id, await harness.claim(job.id), story);

      expect(eventsOf(await Array.fromAsync(events))).toEqual(story);
    });

    it('replays a finished request from any event on', async () => {
      const { job, epoch, logged } = await tell();
      const replay = async (after: EventId | null) =>
        idsOf(await Array.fromAsync(await transport.open(job.id, after, never)));

      expect(await replay(null)).toEqual(idsOf(logged));
      expect(await replay({ epoch, seq: 1 })).toEqual(idsOf(logged).slice(2));
      expect(await replay({ epoch, seq: 3 })).toEqual([]);
    });

    it('leaves a request what it is when another is submitted under its id', async () => {
      const job = jobOf();
      const first = await transport.submit(job, never);
      const sampling = { ...job.sampling, seed: 2 };
      const second = await transport.submit({ ...job, fingerprint: 'other', sampling }, never);
      await harness.append(job.id, await harness.claim(job.id), story);

      expect([first.job, second.job]).toEqual([job, job]);
      expect(await Array.fromAsync(second)).toEqual(await Array.fromAsync(first));
    });

    it('goes on live after the past, for any number of readers', async () => {
      const job = jobOf();
      const first = Array.fromAsync(await transport.submit(job, never));
      const epoch = await harness.claim(job.id);
      await harness.append(job.id, epoch, story.slice(0, 2));
      const second = Array.fromAsync(await transport.open(job.id, null, never));
      const third = Array.fromAsync(await transport.open(job.id, { epoch, seq: 0 }, never));
      await harness.append(job.id, epoch, story.slice(2));

      expect(eventsOf(await first)).toEqual(story);
      expect(eventsOf(await second)).toEqual(story);
      expect(eventsOf(await third)).toEqual(story.slice(1));
    });

    it('counts on over the claims of several workers', async () => {
      const job = jobOf();
      const live = Array.fromAsync(await transport.submit(job, never));
      const first = await harness.claim(job.id);
      await harness.append(job.id, first, story.slice(0, 2));
      const second = await harness.claim(job.id);
      await expect(harness.append(job.id, first, [tokensOf('zombie')])).rejects.toThrow();
      await harness.append(job.id, second, story.slice(2));

      expect(second).toBeGreaterThan(first);
      expect(eventsOf(await live)).toEqual(story);
      expect(idsOf(await live)).toEqual([
        { epoch: first, seq: 0 },
        { epoch: first, seq: 1 },
        { epoch: second, seq: 2 },
        { epoch: second, seq: 3 },
      ]);
    });

    it('stops reading when the reader gives up, and only for that reader', async () => {
      const job = jobOf();
      const leaving = new AbortController();
      const left = Array.fromAsync(await transport.submit(job, leaving.signal));
      const epoch = await harness.claim(job.id);
      const stayed = Array.fromAsync(await transport.open(job.id, null, never));
      leaving.abort();

      await left;
      await harness.append(job.id, epoch, story);
      expect(eventsOf(await stayed)).toEqual(story);
    });

    it('tells the state of a request, from queued to its end', async () => {
      const job = jobOf();
      const live = Array.fromAsync(await transport.submit(job, never));
      const timesMs = { created: expect.any(Number), started: null, ended: null };
      const blank = { epoch: 0, numEvents: 0, trimmed: null };
      const queued = { id: job.id, status: 'queued', job, timesMs, ...blank };
      expect(await transport.request(job.id)).toEqual(queued);
      const epoch = await harness.claim(job.id);
      expect(await transport.request(job.id)).toMatchObject({ status: 'running', epoch });
      await harness.append(job.id, epoch, story);
      await live;
      expect(await transport.request(job.id)).toMatchObject({ status: 'succeeded', epoch });
    });

    it('says that a request failed when its last event is an error', async () => {
      const job = jobOf();
      const error = { type: 'error', code: 'internal', message: 'no luck', param: null } as const;
      const live = Array.fromAsync(await transport.submit(job, never));
      await harness.append(job.id, await harness.claim(job.id), [error]);

      expect(eventsOf(await live)).toEqual([error]);
      expect(await transport.request(job.id)).toMatchObject({ status: 'failed' });
    });

    it('knows nothing of other requests', async () => {
      const id = createRequestId();
      expect(await transport.request(id)).toBeNull();
      expect(await transport.cancel(id)).toBeNull();
      await expect(transport.open(id, null, never)).rejects.toMatchObject({ code: 'not_found' });
    });

    it('ends a queued request at once when it is cancelled, as often as that is asked', async () => {
      const job = jobOf();
      const live = Array.fromAsync(await transport.submit(job, never));

      expect(await transport.cancel(job.id)).toMatchObject({ status: 'cancelled' });
      expect(await transport.cancel(job.id)).toMatchObject({ status: 'cancelled' });
      expect(eventsOf(await live).at(-1)).toMatchObject({ type: 'done' });
    });

    it('leaves a finished request as it is when it is cancelled', async () => {
      const { job } = await tell();
      expect(await transport.cancel(job.id)).toMatchObject({ status: 'succeeded' });
    });

    it('lets the first who reserves a key have it, and tells the others whose it is', async () => {
      const ids = Array.from({ length: 5 }, () => createRequestId());
      const reservation = {
        tenant: toTenantId('a'),
        key: createRequestId(),
        digest: 'd',
        lifeMs: 60_000,
      };

      const owners = await Promise.all(
        ids.map((id) => harness.transport.reserve({ ...reservation, id })),
      );

      expect(new Set(owners).size).toBe(1);
      const other = { ...reservation, id: createRequestId() };
      const mismatch = harness.transport.reserve({ ...other, digest: 'e' });
      await expect(mismatch).rejects.toMatchObject({ code: 'idempotency_mismatch' });
      const tenant = toTenantId('b');
      expect(await harness.transport.reserve({ ...other, tenant })).toBe(other.id);
      const file = { ...other, key: createRequestId(), id: 'file-0' };
      expect(await harness.transport.reserve(file)).toBe('file-0');
      expect(await harness.transport.reserve({ ...file, id: 'file-1' })).toBe('file-0');
    });

    it('counts those who have left a request, and those who listen', async () => {
      const job = jobOf();
      const { transport } = harness;
      expect(await transport.readersOf(job.id)).toEqual({ numLeft: 0, numListening: 0 });
      const gone = new AbortController();
      await transport.submit(job, gone.signal);
      expect(await transport.readersOf(job.id)).toEqual({ numLeft: 0, numListening: 1 });
      gone.abort();
      for (const numLeft of [1, 2]) {
        expect(await transport.noteLeft(job.id)).toBe(numLeft);
        expect(await transport.readersOf(job.id)).toEqual({ numLeft, numListening: 0 });
      }
      await transport.open(job.id, null, never);
      expect(await transport.readersOf(job.id)).toEqual({ numLeft: 2, numListening: 1 });
    });
  });
}
