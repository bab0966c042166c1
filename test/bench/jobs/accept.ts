import { Agent, request as httpRequest } from 'node:http';
import { json } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { Receiver } from '../../support/receivers.ts';
import { quantile } from '../statistics.ts';

export interface JobLoad {
  readonly model: string;
  readonly numJobs: number;
  /** Submissions that are on their way at a time. */
  readonly numConnections: number;
}

export interface JobsSummary {
  readonly acceptedPerSecond: number;
  /** Jobs that still waited when the last was accepted. */
  readonly numWaiting: number;
  /** Milliseconds from the end of a job, by Redis, until its receiver had the notice. */
  readonly deliveryMs: { readonly p50: number; readonly p99: number };
  readonly numDelivered: number;
}

const DELIVERED_WITHIN_MS = 120_000;

const acceptedSchema = z.object({ id: z.string() });
const noticeSchema = z.object({ timestamp: z.iso.datetime(), data: z.object({ id: z.string() }) });

/**
 * Submits jobs as fast as an edge takes them, and waits until a receiver was told of the end of
 * each.
 */
export async function submitJobs(
  url: string,
  receiver: Receiver,
  load: JobLoad,
): Promise<JobsSummary> {
  const agent = new Agent({ keepAlive: true, maxSockets: load.numConnections });
  const ids = new Set<string>();
  const startMs = performance.now();
  let next = 0;
  async function submitAll(): Promise<void> {
    while (next < load.numJobs) {
      next += 1;
      ids.add(await submit(url, agent, bodyOf(next, receiver.url, load.model)));
    }
  }
  await Promise.all(Array.from({ length: load.numConnections }, submitAll));
  const acceptedPerSecond = (1000 * ids.size) / (performance.now() - startMs);
  const numWaiting = ids.size - latenciesOf(receiver, ids).size;
  agent.destroy();
  const untilMs = performance.now() + DELIVERED_WITHIN_MS;
  while (latenciesOf(receiver, ids).size < ids.size && performance.now() < untilMs) await sleep(50);
  const latencies = [...latenciesOf(receiver, ids).values()];
  return {
    acceptedPerSecond,
    numWaiting,
    deliveryMs: { p50: quantile(latencies, 0.5), p99: quantile(latencies, 0.99) },
    numDelivered: latencies.length,
  };
}

function bodyOf(n: number, webhookUrl: string, model: string): string {
  const prompt = `Once upon a time there were ${n} dogs`;
  return JSON.stringify({
    endpoint: '/v1/completions',
    body: { model, prompt, max_tokens: 8 + (n % 9), seed: n, ignore_eos: true, speculation: 'off' },
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

/** By job; a notice that came twice counts from when it came first. */
function latenciesOf({ received }: Receiver, ids: ReadonlySet<string>): Map<string, number> {
  const latencies = new Map<string, number>();
  for (const { body, atMs } of received) {
    const { timestamp, data } = noticeSchema.parse(JSON.parse(body));
    if (!ids.has(data.id) || latencies.has(data.id)) continue;
    latencies.set(data.id, atMs - Date.parse(timestamp));
  }
  return latencies;
}
