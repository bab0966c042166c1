import { Cluster } from 'ioredis';
import { z } from 'zod';
import { atDeadline } from '../../shared/deadline.ts';
import { PlatformError } from '../../shared/errors.ts';
import type { RequestId } from '../../shared/ids.ts';
import { type EventId, encodeEventId, type LoggedEvent } from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import {
  decodeModelCard,
  type TokenizerFiles,
  tokenizerFilesSchema,
} from '../../shared/protocol/model-card.ts';
import { SERVED_MODELS } from '../../shared/protocol/registry-scripts.ts';
import { RequestScripts, runScript } from '../../shared/protocol/request-scripts.ts';
import { DEFAULT_MAX_QUEUED } from './admission.ts';
import { EventReader, type EventSource } from './event-reader.ts';
import { RedisFiles } from './files.ts';
import { Reach, unavailable } from './reach.ts';
import { RedisBatches } from './redis-batches.ts';
import { connectRedis, type RedisClient, type RedisConnections } from './redis-connection.ts';
import { RedisJobs } from './redis-jobs.ts';
import { RedisNotices } from './redis-notices.ts';
import { RequestIntake } from './request-intake.ts';
import { RequestQueues } from './request-queues.ts';
import { Subscriptions } from './subscriptions.ts';
import {
  type KeyedCall,
  type Readers,
  type RequestState,
  type Reservation,
  type ServedModel,
  type SubmittedEvents,
  submittedEvents,
  type Transport,
} from './transport.ts';

export interface RedisTransportOptions {
  /** Where every name in Redis begins. */
  readonly prefix?: string;
  /** How long a request that was cancelled before it began is kept. */
  readonly retentionMs?: number;
  /** Requests that may wait in one queue; more are refused. */
  readonly maxQueued?: number;
}

const HOUR_MS = 3_600_000;

/** Reply of `PUBSUB NUMSUB` for one channel. */
const numSubSchema = z.tuple([z.string(), z.coerce.number()]);

const servedModelsSchema = z.tuple([z.array(z.string()), z.array(z.string())]);

/** @throws {Error} naming the address when no Redis answers there */
export async function openRedisTransport(
  url: string,
  options: RedisTransportOptions = {},
): Promise<RedisTransport> {
  return new RedisTransport(await connectRedis(url), options);
}

/** The transport over one command and one subscriber connection. */
export class RedisTransport implements Transport, AsyncDisposable {
  readonly files: RedisFiles;
  readonly batches: RedisBatches;
  readonly jobs: RedisJobs;
  readonly notices: RedisNotices;
  readonly #connections: RedisConnections;
  readonly #client: RedisClient;
  readonly #keys: Keys;
  readonly #reach: Reach;
  readonly #hearing: Reach;
  readonly #scripts: RequestScripts;
  readonly #subscriptions: Subscriptions;
  readonly #queues: RequestQueues;
  readonly #intake: RequestIntake;

  constructor(connections: RedisConnections, options: RedisTransportOptions = {}) {
    const { command, subscriber, isCluster } = connections;
    this.#connections = connections;
    this.#client = command;
    this.#reach = new Reach(command);
    this.#hearing = new Reach(subscriber);
    this.#keys = new Keys(options.prefix);
    const retentionMs = options.retentionMs ?? HOUR_MS;
    this.#scripts = new RequestScripts(command, this.#keys, { isCluster, retentionMs });
    this.#subscriptions = new Subscriptions(subscriber, { isCluster });
    this.#queues = new RequestQueues(command, this.#reach, this.#keys);
    const maxQueued = options.maxQueued ?? DEFAULT_MAX_QUEUED;
    const context = {
      client: command,
      reach: this.#reach,
      keys: this.#keys,
      scripts: this.#scripts,
      queues: this.#queues,
      maxQueued,
    };
    this.#intake = new RequestIntake(context);
    this.jobs = new RedisJobs(context, this.#intake);
    this.notices = new RedisNotices(context);
    this.files = new RedisFiles(command, this.#reach, this.#keys);
    this.batches = new RedisBatches(context);
  }

  async models(): Promise<readonly ServedModel[]> {
    const keys = [this.#keys.modelCards, this.#keys.workers];
    const reply = await this.#reach.call(() => runScript(this.#client, SERVED_MODELS, keys, []));
    const [cards, members] = servedModelsSchema.parse(reply);
    const models: ServedModel[] = [];
    for (let i = 0; i + 1 < cards.length; i += 2) {
      const numWorkers = members.filter((member) => member.startsWith(`${cards[i]} `)).length;
      models.push({ card: decodeModelCard(cards[i + 1] ?? ''), numWorkers });
    }
    return models;
  }

  async tokenizerFiles(digest: string): Promise<TokenizerFiles> {
    const files = await this.#reach.call(() => this.#client.hgetall(this.#keys.tokenizer(digest)));
    const parsed = tokenizerFilesSchema.safeParse(files);
    if (!parsed.success) throw unavailable(`no tokenizer ${digest.slice(0, 12)} is stored`);
    return parsed.data;
  }

  async submit(job: Job, signal: AbortSignal): Promise<SubmittedEvents> {
    const from = { after: null, hasPast: false };
    const { reader, leave, result } = await this.#listen(job.id, from, signal, async (reader) => {
      await this.#intake.admit(job);
      const standing = await this.#intake.create(job);
      if (standing !== job) reader.onGap();
      return standing;
    });
    try {
      await this.#queues.add(result);
    } catch (error) {
      leave();
      throw error;
    }
    const clearDeadline = this.#watchDeadline(result);
    const events = untilOver(reader, signal, () => {
      clearDeadline();
      leave();
    });
    return submittedEvents(result, events);
  }

  async open(
    id: RequestId,
    after: EventId | null,
    signal: AbortSignal,
  ): Promise<AsyncIterable<LoggedEvent>> {
    const from = { after, hasPast: true };
    const { reader, leave } = await this.#listen(id, from, signal, async (reader) => {
      const stage = await this.#intake.stageOf(id);
      if (stage === 'gone') throw new PlatformError('not_found', `no request ${id} is kept`);
      if (stage === 'ended') reader.onEnded();
    });
    return untilOver(reader, signal, leave);
  }

  async reserved(call: KeyedCall): Promise<string | null> {
    const name = this.#keys.reservation(call);
    return firstIdIn(await this.#reach.call(() => this.#client.get(name)), call);
  }

  async reserve({ id, lifeMs, ...call }: Reservation): Promise<string> {
    const name = this.#keys.reservation(call);
    const reserved = await this.#reach.call(() =>
      this.#client.set(name, `${id} ${call.digest}`, 'PX', lifeMs, 'NX', 'GET'),
    );
    return firstIdIn(reserved, call) ?? id;
  }

  noteLeft(id: RequestId): Promise<number> {
    return this.#reach.call(() => this.#scripts.leave(id));
  }

  async readersOf(id: RequestId): Promise<Readers> {
    const { events, state } = this.#keys.request(id);
    const numLeft = Number(await this.#reach.call(() => this.#client.hget(state, 'left')));
    const numListening = await this.#reach.call(() => this.#numListening(events));
    return { numLeft, numListening };
  }

  /** Connections that are subscribed to a channel, on any node. */
  async #numListening(channel: string): Promise<number> {
    const client = this.#client;
    const nodes = client instanceof Cluster ? client.nodes('all') : [client];
    const command = client instanceof Cluster ? 'SHARDNUMSUB' : 'NUMSUB';
    const replies = await Promise.all(nodes.map((node) => node.call('PUBSUB', command, channel)));
    const counts = replies.map((reply) => numSubSchema.parse(reply)[1]);
    return counts.reduce((sum, count) => sum + count, 0);
  }

  request(id: RequestId): Promise<RequestState | null> {
    return this.#intake.find(id);
  }

  async cancel(id: RequestId): Promise<RequestState | null> {
    const state = await this.request(id);
    if (state === null) return null;
    await this.#intake.cancel(state.job, 'cancelled');
    return this.request(id);
  }

  async ping(): Promise<void> {
    await this.#reach.call(() => this.#client.ping());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#connections.command.disconnect();
    this.#connections.subscriber.disconnect();
  }

  /** A reader that hears its request by the time this resolves, together with `meanwhile`. */
  async #listen<Result>(
    id: RequestId,
    from: { readonly after: EventId | null; readonly hasPast: boolean },
    signal: AbortSignal,
    meanwhile: (reader: EventReader) => Promise<Result>,
  ): Promise<{
    readonly reader: EventReader;
    readonly leave: () => void;
    readonly result: Result;
  }> {
    const reader = new EventReader(this.#sourceOf(id), from, signal);
    const channel = this.#keys.request(id).events;
    const listening = this.#hearing.call(() => this.#subscriptions.listen(channel, reader));
    try {
      const [leave, result] = await Promise.all([listening, meanwhile(reader)]);
      return { reader, leave, result };
    } catch (error) {
      void listening.then(
        (leave) => leave(),
        () => undefined, // nothing to leave
      );
      throw error;
    }
  }

  #sourceOf(id: RequestId): EventSource {
    const { log } = this.#keys.request(id);
    return {
      readLog: async (after, count) => {
        const start = after === null ? '-' : `(${encodeEventId(after)}`;
        const entries = await this.#reach.call(() =>
          this.#client.xrange(log, start, '+', 'COUNT', count),
        );
        return entries.map(([entryId, fields]) => [entryId, fields[1] ?? ''] as const);
      },
      stage: () => this.#intake.stageOf(id),
    };
  }

  /** Ends a request that no worker has begun in time; a worker ends what it has begun. */
  #watchDeadline(job: Job): () => void {
    return atDeadline(job.deadlineMs, () => {
      // Where it fails, the worker that claims it will do so.
      this.#intake.cancel(job, 'deadline').catch(() => undefined);
    });
  }
}

/** Of what was reserved for a call. @throws {PlatformError} `idempotency_mismatch` */
function firstIdIn(reserved: string | null, { digest }: KeyedCall): string | null {
  if (reserved === null) return null;
  const [firstId = '', firstDigest] = reserved.split(' ');
  if (firstDigest === digest) return firstId;
  const message = 'the idempotency key was used for a request with another body';
  throw new PlatformError('idempotency_mismatch', message, { param: 'Idempotency-Key' });
}

/** @param leave called once or twice: at the end, and when the signal aborts, read or not */
function untilOver(
  reader: EventReader,
  signal: AbortSignal,
  leave: () => void,
): AsyncIterable<LoggedEvent> {
  signal.addEventListener('abort', leave);
  if (signal.aborted) leave();
  return reader.read(() => {
    signal.removeEventListener('abort', leave);
    leave();
  });
}
