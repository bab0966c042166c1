import { describe, expect, it } from 'vitest';
import { HubService } from '../../../edge/transport/hub-service.ts';
import { HubTransport } from '../../../edge/transport/hub-transport.ts';
import type { Transport } from '../../../edge/transport/transport.ts';
import { PlatformError } from '../../../shared/errors.ts';
import { createRequestId } from '../../../shared/ids.ts';
import { isTerminal } from '../../../shared/protocol/event.ts';
import { describeAdmission } from '../../support/admission-conformance.ts';
import { FakeTransport } from '../../support/fake-transport.ts';
import { describeIdempotency } from '../../support/idempotency-conformance.ts';
import { jobOf } from '../../support/jobs.ts';
import { describeJobs } from '../../support/jobs-conformance.ts';
import {
  describeNotices,
  memoryRecords,
  type NoticesHarness,
} from '../../support/notices-conformance.ts';
import { tellStory } from '../../support/storyteller.ts';
import { describeTransport } from '../../support/transport-conformance.ts';

const never = new AbortController().signal;

/**
 * Hubs in this process, all over the same transport. `counts` are of calls that each one answered.
 */
function openHubs(transport: Transport, numHubs = 3) {
  const idle: number[] = [];
  const counts = Array.from({ length: numHubs }, () => 0);
  const services = counts.map(
    (_, hub) =>
      new HubService({ connect: async () => transport, onIdle: () => void idle.push(hub) }),
  );
  async function send(hub: number, call: string): Promise<Response> {
    counts[hub]! += 1;
    return services[hub]!.serve(new Request('https://hub/', { method: 'POST', body: call }));
  }
  return { hubs: new HubTransport({ numHubs, send }), send, counts, idle };
}

async function open(maxQueued?: number): Promise<NoticesHarness> {
  const fake = new FakeTransport();
  if (maxQueued !== undefined) fake.maxQueued = maxQueued;
  const { hubs: transport } = openHubs(fake);
  return {
    transport,
    register: async (card, files, ratePerSecond = 0) => {
      fake.register(card, files);
      fake.setRate(card, ratePerSecond);
    },
    claim: async (id) => fake.claim(id),
    append: async (id, epoch, events) => {
      for (const event of events) fake.append(id, epoch, event);
    },
    records: memoryRecords(fake.notices),
    [Symbol.asyncDispose]: async () => undefined,
  };
}

describeTransport('HubTransport', open);
describeAdmission('HubTransport', open);
describeJobs('HubTransport', open);
describeNotices('HubTransport', open);
describeIdempotency('HubTransport', open);

/** A body whose end, when it is given up, the other side never hears of. */
function unheard(response: Response): Response {
  const reader = response.body!.getReader();
  return new Response(
    new ReadableStream<Uint8Array>({
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      },
    }),
  );
}

/** Cuts a body after `numBytes`, as when its hub is moved. */
function cutAfter(response: Response, numBytes: number): Response {
  const body = response.body!.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        controller.enqueue(chunk.slice(0, numBytes));
        numBytes -= Math.min(numBytes, chunk.length);
        if (numBytes === 0) controller.error(new Error('the object was reset'));
      },
    }),
  );
  return new Response(body);
}

describe('HubTransport', () => {
  it('keeps code, param and time to retry of a failure', async () => {
    const fake = new FakeTransport();
    const options = { param: 'stop[1]', retryAfterSeconds: 7, cause: new Error('for the log') };
    fake.ping = () => Promise.reject(new PlatformError('overloaded', 'too much', options));

    const error = await openHubs(fake)
      .hubs.ping()
      .catch((thrown: unknown) => thrown);

    expect(error).toBeInstanceOf(PlatformError);
    expect(error).toMatchObject({
      code: 'overloaded',
      message: 'too much',
      param: 'stop[1]',
      retryAfterSeconds: 7,
      cause: expect.stringContaining('for the log'),
    });
  });

  it('tells of a bug behind the hub nothing but that there is one', async () => {
    const fake = new FakeTransport();
    fake.ping = () => Promise.reject(new TypeError('x is undefined'));
    await expect(openHubs(fake).hubs.ping()).rejects.toMatchObject({
      code: 'internal',
      message: 'internal error',
    });
  });

  it('asks one hub for all of a request, and spreads requests over hubs', async () => {
    const { hubs, counts } = openHubs(new FakeTransport(tellStory), 4);
    for (let i = 0; i < 64; i += 1) {
      const before = [...counts];
      const id = createRequestId();
      await hubs.request(id);
      await hubs.cancel(id);
      expect(counts.map((count, hub) => count - before[hub]!).sort()).toEqual([0, 0, 0, 2]);
    }
    for (const count of counts) expect(count).toBeGreaterThan(0);
  });

  it('goes on where a stream was cut, in the middle of a frame or between two', async () => {
    const fake = new FakeTransport(tellStory);
    const whole = openHubs(fake);
    const job = jobOf();
    const expected = await Array.fromAsync(await whole.hubs.submit(job, never));
    expect(isTerminal(expected.at(-1)!.event)).toBe(true);

    for (let numBytes = 1; numBytes < 600; numBytes += 37) {
      let numCuts = 0;
      const hubs = new HubTransport({
        numHubs: 1,
        async send(_, call) {
          const response = await whole.send(0, call);
          numCuts += 1;
          return numCuts > 3 ? response : cutAfter(response, numBytes);
        },
      });
      expect(await Array.fromAsync(await hubs.open(job.id, null, never))).toEqual(expected);
      expect(numCuts).toBe(4);
    }
  });

  it('notes that a reader left only when it did, however late word of that is', async () => {
    const fake = new FakeTransport();
    const { send } = openHubs(fake, 1);
    const hubs = new HubTransport({
      numHubs: 1,
      send: async (hub, call) => unheard(await send(hub, call)),
    });
    const job = jobOf();
    const leaving = new AbortController();
    await hubs.submit(job, leaving.signal);
    leaving.abort();

    const numLeft = await hubs.noteLeft(job.id);
    expect(await hubs.readersOf(job.id)).toEqual({ numLeft, numListening: 0 });
  });

  it('says that the queue cannot be reached when its hub stays away', async () => {
    let numTries = 0;
    const hubs = new HubTransport({
      numHubs: 1,
      send: () => {
        numTries += 1;
        return Promise.reject(new Error('the object was reset'));
      },
    });
    await expect(hubs.ping()).rejects.toMatchObject({ code: 'unavailable', retryAfterSeconds: 1 });
    expect(numTries).toBeGreaterThan(1);
  });
});

describe('HubService', () => {
  it('is idle when the last call has ended, streams included, however they end', async () => {
    const fake = new FakeTransport();
    const { hubs, idle } = openHubs(fake, 1);
    await hubs.ping();
    expect(idle).toHaveLength(1);

    const leaving = new AbortController();
    const left = await hubs.submit(jobOf(), leaving.signal);
    const job = jobOf();
    const stayed = await hubs.submit(job, never);
    leaving.abort();
    expect(await Array.fromAsync(left)).toEqual([]);
    await hubs.ping();
    expect(idle).toHaveLength(1);

    await hubs.cancel(job.id);
    await Array.fromAsync(stayed);
    await expect.poll(() => idle).toHaveLength(2);
  });

  it('answers a call that it does not know with an error', async () => {
    const { send } = openHubs(new FakeTransport());
    const response = await send(0, '{"type":"no-such"}');
    expect(response.status).toBe(500);
    expect(await response.json()).toMatchObject({ code: 'internal' });
  });
});
