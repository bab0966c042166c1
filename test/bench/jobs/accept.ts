import { Agent, request as httpRequest } from 'node:http';
import { json } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { Receiver } from '../../support/receivers.ts';
import { quantile } from '../statistics.ts';

export interface JobLoad {
  readonly model: string;
  /** Jobs that are timed. */
  readonly numJobs: number;
  /** Jobs that wait before that begins. */
  readonly numQueued: number;
  /** Submissions that are on their way at a time. */
  readonly numConnections: number;
}

export interface JobsSummary {
  readonly acceptedPerSecond: number;
  /** Jobs that waited or were at work, at the least, while jobs were timed. */
  readonly numWaiting: number;
  /** Milliseconds from the end of a job, by Redis, until its receiver had the notice. */
  readonly deliveryMs: { readonly p50: number; readonly p99: number };
  readonly numSubmitted: number;
  readonly numDelivered: number;
}

/** Of jobs that are there to wait, so that they are accepted faster than they are done. */
const QUEUED_TOKENS = 32;
/** Submissions after which a queue that does not grow is taken as it is, times those wanted. */
const MAX_GROWTH = 5;
const DELIVERED_WITHIN_MS = 240_000;

const acceptedSchema = z.object({ id: z.string() });
const noticeSchema = z.object({ timestamp: z.iso.datetime(), data: z.object({ id: z.string() }) });

/**
 * Fills the queue, submits jobs as fast as an edge takes them, and waits until a receiver was told
 * of the end of each.
 */
export async function submitJobs(
  url: string,
  receiver: Receiver,
  { model, numJobs, numQueued, numConnections }: JobLoad,
): Promise<JobsSummary> {
  const agent = new Agent({ keepAlive: true, maxSockets: numConnections });
  const told = new ToldJobs(receiver);
  const ids = new Set<string>();
  let next = 0;
  async function submitWhile(isWanted: () => boolean, numTokens: () => number): Promise<void> {
    while (isWanted()) {
      next += 1;
      const body = bodyOf(next, numTokens(), { model, webhookUrl: receiver.url });
      ids.add(await submit(url, agent, body));
    }
  }
  const all = (...args: Parameters<typeof submitWhile>) =>
    Promise.all(Array.from({ length: numConnections }, () => submitWhile(...args)));
  const numWaiting = () => ids.size - told.count;
  const maxQueued = MAX_GROWTH * numQueued;
  await all(
    () => numWaiting() < numQueued && next < maxQueued,
    () => QUEUED_TOKENS,
  );

  const numBefore = numWaiting();
  const startMs = performance.now();
  let numLeft = numJobs;
  await all(
    () => numLeft-- > 0,
    () => 8 + (next % 9),
  );
  const acceptedPerSecond = (1000 * numJobs) / (performance.now() - startMs);
  const numAfter = numWaiting();
  agent.destroy();
  const untilMs = performance.now() + DELIVERED_WITHIN_MS;
  while (numWaiting() > 0 && performance.now() < untilMs) await sleep(50);
  return {
    acceptedPerSecond,
    numWaiting: Math.min(numBefore, numAfter),
    deliveryMs: { p50: quantile(told.latencies, 0.5), p99: quantile(told.latencies, 0.99) },
    numSubmitted: ids.size,
    numDelivered: told.count,
  };
}

interface JobTarget {
  readonly model: string;
  readonly webhookUrl: string;
}

function bodyOf(n: number, numTokens: number, { model, webhookUrl }: JobTarget): string {
  const prompt = `Once upon a time there were ${n} dogs`;
  return JSON.stringify({
    endpoint: '/v1/completions',
    body: { model, prompt, max_tokens: numTokens, seed: n, ignore_eos: true, speculation: 'off' },
    webhook: { url: webhookUrl, events: ['job.succeeded'] },
  });
}

async function submit(url: string, agent: Agent, body: string): Promise<string> {
  const outgoing = httpRequest(`${url}/v1/jobs`, {
    method: 'POST',
    agent,
    headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
  });
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  outgoing.on('error', reject);
  outgoing.on('response', (response) => {
    json(response).then((answer) => {
      const accepted = acceptedSchema.safeParse(answer);
      if (response.statusCode === 202 && accepted.success) resolve(accepted.data.id);
      else reject(new Error(`status ${response.statusCode}: ${JSON.stringify(answer)}`));
    }, reject);
  });
  outgoing.end(body);
  return promise;
}

/** Of whose end a receiver was told; a notice that came twice counts from when it came first. */
class ToldJobs {
  readonly #receiver: Receiver;
  readonly #latencyById = new Map<string, number>();
  #numRead = 0;

  constructor(receiver: Receiver) {
    this.#receiver = receiver;
  }

  get count(): number {
    this.#read();
    return this.#latencyById.size;
  }

  get latencies(): number[] {
    this.#read();
    return [...this.#latencyById.values()];
  }

  #read(): void {
    const { received } = this.#receiver;
    for (; this.#numRead < received.length; this.#numRead += 1) {
      const { body, atMs } = received[this.#numRead]!;
      const { timestamp, data } = noticeSchema.parse(JSON.parse(body));
      if (this.#latencyById.has(data.id)) continue;
      this.#latencyById.set(data.id, atMs - Date.parse(timestamp));
    }
  }
}
