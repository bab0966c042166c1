import { z } from 'zod';
import type { RequestId } from '../../shared/ids.ts';
import { eventsOfUnbegun } from '../../shared/protocol/cancelled.ts';
import { encodeEvent } from '../../shared/protocol/event.ts';
import { decodeJob, type Job } from '../../shared/protocol/job.ts';
import { HAND_OVER } from '../../shared/protocol/notice-scripts.ts';
import { type RequestScripts, runScript } from '../../shared/protocol/request-scripts.ts';
import {
  isTerminalNotice,
  type OutboxEntry,
  outboxEntrySchema,
  webhookIdOf,
} from '../../shared/protocol/webhook.ts';
import { dataOf, fullDataOf } from './data.ts';
import { type HandOverContext, handOver, type Notice } from './hand-over.ts';
import { handOverOutput, type OutputContext } from './output-pieces.ts';
import type { RequestQueue } from './request-queue.ts';

export interface NoticesContext extends HandOverContext, OutputContext {
  readonly scripts: RequestScripts;
  readonly requestQueue: RequestQueue;
}

/** How soon a request is to be looked at again; `null` for as usual. */
type Again = number | null;

/** A request that nobody knows is waited for as long as an edge may take to create it. */
const UNKNOWN_FOR_MS = 60_000;
/**
 * A request that was not claimed for so long may not have been queued: its edge may have died in
 * between.
 */
const UNQUEUED_AFTER_MS = 10_000;
/** What waits for longer does not expire as what nobody ever claimed: somebody looks after it. */
const LONG_WAIT_MS = 24 * 3_600_000;

const stateSchema = z.tuple([
  z.string().nullable(),
  z.string().nullable(),
  z.coerce.number(),
  z.coerce.number(),
  z.coerce.number(),
]);

interface State {
  readonly status: string;
  readonly job: Job;
  readonly numDone: number;
  readonly numClaims: number;
  readonly createdMs: number;
}

/** Looks at requests that somebody wants to be told of, and hands over what their outboxes hold. */
export class RequestNotices {
  readonly #context: NoticesContext;
  readonly #unknownSinceById = new Map<RequestId, number>();

  constructor(context: NoticesContext) {
    this.#context = context;
  }

  /** @returns when it should be looked at again */
  async look(id: RequestId): Promise<Again> {
    const state = await this.#stateOf(id);
    if (state === null) return this.#lookForUnknown(id);
    this.#unknownSinceById.delete(id);
    const { client, keys } = this.#context;
    const texts = await client.lrange(keys.request(id).outbox, state.numDone, -1);
    const entries = texts.map((text) => outboxEntrySchema.parse(JSON.parse(text)));
    const isOver = state.status !== 'queued' && state.status !== 'running';
    const wantsOutput = state.job.webhook?.events.includes('job.output') === true;
    if (wantsOutput && (isOver || state.status === 'running')) await this.#lookForOutput(id, state);
    for (const entry of entries) await this.#handOver(id, state.job, entry);
    if (isOver) await client.zrem(keys.pendingJobs, id);
    else if (state.status === 'queued') await this.#lookAfterQueued(id, state);
    return wantsOutput && state.status === 'running' ? this.#context.outputMs : null;
  }

  /** @returns the notice of an entry of its outbox, or `null` when it has none of that number */
  async notice(id: RequestId, n: number): Promise<Notice | null> {
    const state = await this.#stateOf(id);
    const { client, keys } = this.#context;
    const text = await client.lindex(keys.request(id).outbox, n);
    if (state === null || text === null) return null;
    return this.#toNotice(id, state.job, outboxEntrySchema.parse(JSON.parse(text)));
  }

  async #stateOf(id: RequestId): Promise<State | null> {
    const { client, keys } = this.#context;
    const fields = ['status', 'job', 'outboxDone', 'epoch', 'createdMs'] as const;
    const reply = await client.hmget(keys.request(id).state, ...fields);
    const [status, job, numDone, numClaims, createdMs] = stateSchema.parse(reply);
    if (status === null || job === null) return null;
    return { status, job: decodeJob(job), numDone, numClaims, createdMs };
  }

  async #lookForUnknown(id: RequestId): Promise<Again> {
    const nowMs = Date.now();
    const sinceMs = this.#unknownSinceById.get(id) ?? nowMs;
    this.#unknownSinceById.set(id, sinceMs);
    this.#forgetUnknown(nowMs);
    if (nowMs - sinceMs < UNKNOWN_FOR_MS) return null;
    this.#unknownSinceById.delete(id);
    await this.#context.client.zrem(this.#context.keys.pendingJobs, id);
    return null;
  }

  /** Others may have finished what was first seen here. */
  #forgetUnknown(nowMs: number): void {
    for (const [id, sinceMs] of this.#unknownSinceById) {
      if (nowMs - sinceMs < 2 * UNKNOWN_FOR_MS) return;
      this.#unknownSinceById.delete(id);
    }
  }

  async #lookForOutput(id: RequestId, { job, status }: State): Promise<void> {
    const isLast = status !== 'running';
    await handOverOutput(id, isLast, this.#context, async (piece) => {
      const notice: Notice = {
        webhookId: `msg_${id}_o${piece.sequence}`,
        subject: id,
        tenant: job.tenant,
        type: 'job.output',
        atMs: Date.now(),
        webhook: job.webhook ?? null,
        data: { ...dataOf(job, 'running'), ...piece },
      };
      await handOver(notice, this.#context);
    });
  }

  async #handOver(id: RequestId, job: Job, entry: OutboxEntry): Promise<void> {
    const { host, keys } = this.#context;
    const { state, log, claims, outbox } = keys.request(id);
    await handOver(this.#toNotice(id, job, entry), this.#context);
    await runScript(host, HAND_OVER, [state, log, claims, outbox], [entry.n + 1]);
  }

  #toNotice(id: RequestId, job: Job, entry: OutboxEntry): Notice {
    const { type, atMs } = entry;
    const status = type.slice('job.'.length).replace('started', 'running');
    const { client, keys } = this.#context;
    const data = dataOf(job, status);
    return {
      webhookId: webhookIdOf(id, entry),
      subject: id,
      tenant: job.tenant,
      type,
      atMs,
      webhook: job.webhook ?? null,
      data,
      ...(isTerminalNotice(type) && {
        fullData: async () => ({ ...data, ...(await fullDataOf(job, client, keys)) }),
      }),
    };
  }

  /** Does for a queued request what its edge would do, which may be gone. */
  async #lookAfterQueued(id: RequestId, { job, numClaims, createdMs }: State): Promise<void> {
    const { client, keys, scripts, requestQueue } = this.#context;
    const nowMs = Date.now();
    if (nowMs - createdMs > LONG_WAIT_MS) {
      const { state, outbox } = keys.request(id);
      await Promise.all([state, outbox].map((key) => client.persist(key)));
    }
    if (job.deadlineMs !== null && job.deadlineMs <= nowMs) {
      const events = eventsOfUnbegun(job, 'deadline', nowMs).map(encodeEvent);
      const end = await scripts.cancel(id, 'deadline', events);
      if (end === 'ended') await requestQueue.remove(job);
    } else if (numClaims === 0 && nowMs - createdMs > UNQUEUED_AFTER_MS) {
      await requestQueue.ensure(job);
    }
  }
}
