import { DelayedError, type Job as QueueJob, UnrecoverableError, Worker } from 'bullmq';
import type { Keys } from '../../shared/protocol/keys.ts';
import type { RedisConnections } from '../queue/connection.ts';
import type { Log } from '../telemetry/log.ts';
import type { WebhookMetrics } from '../telemetry/webhook-metrics.ts';
import { type Delivery, type DeliveryQueue, decodeDelivery, isTaken } from './delivery.ts';
import type { Endpoints } from './endpoint.ts';
import type { DeliveryRecords } from './records.ts';
import { parseRetryAfter, type RetryOptions, waitAfterFailureMs } from './retry-schedule.ts';
import { type Outcome, type SendOptions, send } from './send.ts';
import { signedHeaders } from './signature.ts';

export interface DeliveryConsumerOptions {
  /** Deliveries at a time, to whichever endpoints. */
  readonly maxRunning: number;
  readonly lockMs: number;
  readonly stalledCheckMs: number;
  /** Sign what brings no secret of its own. */
  readonly secretsByTenant: ReadonlyMap<string, readonly string[]>;
  readonly retry: RetryOptions;
  readonly sending: SendOptions;
}

export interface DeliveryContext {
  readonly redis: RedisConnections;
  readonly keys: Keys;
  readonly queue: DeliveryQueue;
  readonly records: DeliveryRecords;
  readonly endpoints: Endpoints;
  readonly metrics: WebhookMetrics;
  readonly log: Log;
}

/** A process that dies in the middle of a delivery is no fault of the delivery's. */
const UNLIMITED = 1_000_000;
/** Checks in a row that found deliveries waiting, room here, and nothing taken. */
const MAX_QUIET_CHECKS = 3;
/** Of an answer, for those who look at their deliveries. */
const MAX_SHOWN_CHARACTERS = 1024;

/** Why BullMQ is to call again, and when. */
class RetryLater extends Error {
  readonly delayMs: number;

  constructor(message: string, delayMs: number) {
    super(message);
    this.delayMs = delayMs;
  }
}

/**
 * Takes deliveries off the queue and sends each until it is taken, refused for good, or given up.
 */
export class DeliveryConsumer implements AsyncDisposable {
  readonly #options: DeliveryConsumerOptions;
  readonly #context: DeliveryContext;
  readonly #watch: NodeJS.Timeout;
  #worker: Worker;
  #numRunning = 0;
  #numTaken = 0;
  #numTakenBefore = 0;
  #numQuiet = 0;

  constructor(options: DeliveryConsumerOptions, context: DeliveryContext) {
    this.#options = options;
    this.#context = context;
    this.#worker = this.#openWorker();
    this.#watch = setInterval(() => void this.#checkQuiet(), options.stalledCheckMs);
  }

  get numRunning(): number {
    return this.#numRunning;
  }

  /**
   * Takes no more and waits for what is on its way; what is cut short is sent again, by another.
   */
  async close(graceMs: number): Promise<void> {
    clearInterval(this.#watch);
    const cut = new Promise((resolve) => setTimeout(resolve, graceMs).unref());
    await Promise.race([this.#worker.close(), cut]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close(0);
  }

  #openWorker(): Worker {
    const { redis, keys, log } = this.#context;
    const { maxRunning, lockMs, stalledCheckMs } = this.#options;
    const { prefix, name } = keys.deliveries;
    const worker = new Worker(name, (job, token) => this.#process(job, token), {
      prefix,
      connection: redis.command,
      concurrency: maxRunning,
      lockDuration: lockMs,
      lockRenewTime: Math.floor(lockMs / 3), // so that two renewals may come late
      stalledInterval: stalledCheckMs,
      maxStalledCount: UNLIMITED,
      drainDelay: 2,
      runRetryDelay: 200,
      settings: {
        backoffStrategy: (_numAttempts, _type, error) =>
          error instanceof RetryLater ? error.delayMs : stalledCheckMs,
      },
    });
    worker.on('error', ({ message }) => log.warn('queue_error', { reason: message }));
    worker.on('stalled', (id) => log.warn('delivery_stalled', { id }));
    return worker;
  }

  async #process(job: QueueJob, token: string | undefined): Promise<void> {
    this.#numTaken += 1;
    const delivery = decodeDelivery(job.data);
    if (delivery === null) throw new UnrecoverableError('unreadable delivery');
    const { endpoints, records } = this.#context;
    if (!delivery.isRedelivery && (await records.isDisabled(delivery))) {
      return this.#withhold(delivery, job.attemptsMade);
    }
    const secrets = this.#secretsOf(delivery);
    if (secrets.length === 0) {
      return this.#settle(delivery, job.attemptsMade, await this.#refuse(delivery));
    }
    const entry = endpoints.enter(delivery, this.#options.maxRunning - this.#numRunning);
    if (entry.type !== 'entered') {
      if (entry.type === 'open' && this.#isOverdue(delivery)) {
        await this.#giveUp(delivery, job.attemptsMade, {
          status: null,
          error: 'the breaker is open',
        });
      }
      await job.moveToDelayed(Date.now() + entry.afterMs, token);
      throw new DelayedError();
    }
    this.#numRunning += 1;
    let outcome: Outcome | null = null;
    try {
      outcome = await this.#send(delivery, secrets);
    } finally {
      this.#numRunning -= 1;
      const isAlive = outcome?.status != null && outcome.status < 500 && outcome.status !== 429;
      entry.leave({ isAlive, durationMs: outcome?.durationMs ?? 0 });
    }
    await this.#settle(delivery, job.attemptsMade, outcome);
  }

  #secretsOf({ secrets, tenant }: Delivery): readonly string[] {
    return secrets.length > 0 ? secrets : (this.#options.secretsByTenant.get(tenant) ?? []);
  }

  async #send(delivery: Delivery, secrets: readonly string[]): Promise<Outcome> {
    const { url, body, webhookId } = delivery;
    const atMs = Date.now();
    const timestampSeconds = Math.floor(atMs / 1000);
    const headers = signedHeaders({ webhookId, timestampSeconds, body }, secrets);
    const outcome = await send({ url, headers, body }, this.#options.sending);
    await this.#note(delivery, atMs, outcome);
    return outcome;
  }

  /** An edge knew a secret of the tenant's that is not known here: nothing goes out unsigned. */
  async #refuse(delivery: Delivery): Promise<Outcome> {
    const error = 'not sent: no secret of the tenant is known here to sign it';
    const outcome = { status: null, error, answer: '', retryAfter: null, durationMs: 0 };
    await this.#note(delivery, Date.now(), outcome);
    return outcome;
  }

  async #note(delivery: Delivery, atMs: number, outcome: Outcome): Promise<void> {
    const { webhookId, subject, type } = delivery;
    const { records, metrics, log } = this.#context;
    const { status, error, durationMs } = outcome;
    const answer = outcome.answer.slice(0, MAX_SHOWN_CHARACTERS);
    metrics.countAttempt(outcome);
    log.info('delivery_attempted', { id: webhookId, status, error, duration_ms: durationMs });
    await records.addAttempt(subject, { webhookId, type, atMs, status, error, durationMs, answer });
  }

  /** @throws {RetryLater} until the schedule is exhausted */
  async #settle(delivery: Delivery, numBefore: number, outcome: Outcome): Promise<void> {
    const { records, metrics, queue } = this.#context;
    const { status, retryAfter } = outcome;
    if (isTaken(outcome)) {
      metrics.countDelivered(Date.now() - delivery.createdMs);
      if (!delivery.isRedelivery) return;
      await records.enable(delivery);
      await records.removeDeadLetter(delivery);
      return queue.remove(delivery.webhookId);
    }
    const numAttempts = numBefore + 1;
    if (status === 410) {
      await records.disable(delivery, Date.now());
      return this.#giveUp(delivery, numAttempts, outcome);
    }
    const retryAfterMs = parseRetryAfter(retryAfter, Date.now());
    const delayMs = waitAfterFailureMs(numAttempts, retryAfterMs, this.#options.retry);
    if (delayMs === null) return this.#giveUp(delivery, numAttempts, outcome);
    throw new RetryLater(`${status ?? outcome.error}`, delayMs);
  }

  /** Says of a delivery to a disabled endpoint that it is not sent. */
  async #withhold(delivery: Delivery, numAttempts: number): Promise<never> {
    const { webhookId, subject, type } = delivery;
    const error = 'not sent: the endpoint answered 410 before';
    const attempt = { webhookId, type, atMs: Date.now(), status: null, durationMs: 0, answer: '' };
    await this.#context.records.addAttempt(subject, { ...attempt, error });
    return this.#giveUp(delivery, numAttempts, { status: null, error });
  }

  async #giveUp(
    delivery: Delivery,
    numAttempts: number,
    { status, error }: Pick<Outcome, 'status' | 'error'>,
  ): Promise<never> {
    const { records, metrics, log } = this.#context;
    await records.addDeadLetter(delivery, { numAttempts, status, error }, Date.now());
    metrics.countDead();
    log.warn('delivery_given_up', { id: delivery.webhookId, num_attempts: numAttempts, status });
    throw new UnrecoverableError(`${status ?? error}`);
  }

  /** Whether it has waited for longer than all of its retries would take. */
  #isOverdue({ createdMs }: Delivery): boolean {
    const totalMs = this.#options.retry.scheduleMs.reduce((sum, ms) => sum + ms, 0);
    return Date.now() - createdMs > 2 * totalMs;
  }

  /**
   * Consumers have been seen to fall silent after a reconnect or a failover: then another one is
   * opened.
   */
  async #checkQuiet(): Promise<void> {
    const numWaiting = await this.#context.queue.numWaiting().catch(() => 0);
    const hasRoom = this.#numRunning < this.#options.maxRunning;
    const isQuiet = numWaiting > 0 && hasRoom && this.#numTaken === this.#numTakenBefore;
    this.#numTakenBefore = this.#numTaken;
    this.#numQuiet = isQuiet ? this.#numQuiet + 1 : 0;
    if (this.#numQuiet < MAX_QUIET_CHECKS) return;
    this.#numQuiet = 0;
    this.#context.log.warn('consumer_reopened', { num_running: this.#numRunning });
    const old = this.#worker;
    this.#worker = this.#openWorker();
    void old.close();
  }
}
