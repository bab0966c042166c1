import type { RequestId, TenantId } from '../ids.ts';
import type { JobClass } from './job.ts';

/** Where every name in Redis begins; another one keeps a second system apart in the same Redis. */
export const DEFAULT_PREFIX = 'rivulet';

/**
 * One model as one kind of worker serves it. Its requests have a queue of their own, and those of a
 * batch another.
 */
export interface QueueOf {
  readonly model: string;
  readonly fingerprint: string;
  /** Absent for `interactive`. */
  readonly class?: JobClass | undefined;
}

/** Everything about one request. The hash tag puts all of it on one node of a cluster. */
export interface RequestKeys {
  /** Hash: job, status, epoch, nextSeq ... (scripts.ts). */
  readonly state: string;
  /** Stream of events, ids `<epoch>-<seq>`. */
  readonly log: string;
  /** List: who claimed it, and when, since it last came further; none that was given back. */
  readonly claims: string;
  /** Channel: `<epoch>-<seq> <event>` for every new event. */
  readonly events: string;
  /** List of what there is to say about it, as `OutboxEntry` (webhook.ts). */
  readonly outbox: string;
  /** Evidence, where it was claimed too often. */
  readonly setAside: string;
}

/** What a tenant's files are found by. */
export interface FilesKeys {
  /** Sorted set: ids in order of age. */
  readonly index: string;
  /** Sorted set: ids by when they are forgotten, in ms. */
  readonly expiries: string;
  /** Hash: id -> bytes. */
  readonly sizes: string;
}

/** Every key, channel and queue name, below one prefix. */
export class Keys {
  readonly prefix: string;

  constructor(prefix: string = DEFAULT_PREFIX) {
    this.prefix = prefix;
  }

  request(id: RequestId): RequestKeys {
    const tag = `${this.prefix}:{${id}}`;
    return {
      state: `${tag}:state`,
      log: `${tag}:log`,
      claims: `${tag}:claims`,
      events: `${tag}:events`,
      outbox: `${tag}:outbox`,
      setAside: `${tag}:set-aside`,
    };
  }

  /**
   * BullMQ's `prefix` and queue name. Encoded, because a brace in a name would end the hash tag.
   */
  queue(queue: QueueOf): { readonly prefix: string; readonly name: string } {
    const name = queue.class === 'batch' ? 'batch' : 'requests';
    return { prefix: `${this.prefix}:{${servedModelField(queue)}}`, name };
  }

  /** Sorted set that wakes BullMQ workers waiting for a job of the queue. */
  queueMarker(queue: QueueOf): string {
    const { prefix, name } = this.queue(queue);
    return `${prefix}:${name}:marker`;
  }

  /** BullMQ's list and sorted set of jobs that nobody has taken. */
  waitingJobs(queue: QueueOf): { readonly wait: string; readonly prioritized: string } {
    const { prefix, name } = this.queue(queue);
    return { wait: `${prefix}:${name}:wait`, prioritized: `${prefix}:${name}:prioritized` };
  }

  /** BullMQ's list of jobs that workers have taken. */
  activeJobs(queue: QueueOf): string {
    const { prefix, name } = this.queue(queue);
    return `${prefix}:${name}:active`;
  }

  /** Hash: worker id -> `<ms when it expires> <requests it finishes a second> <and at a time>`. */
  rates(queue: QueueOf): string {
    const { prefix, name } = this.queue(queue);
    return name === 'batch' ? `${prefix}:batch-rates` : `${prefix}:rates`;
  }

  /** Hash: `servedModelField` -> model card. */
  get modelCards(): string {
    return `${this.prefix}:{models}:cards`;
  }

  /** Sorted set: `servedModelField` by when it was served last, in ms. */
  get modelsServed(): string {
    return `${this.prefix}:{models}:served`;
  }

  /** Sorted set: `<servedModelField> <worker id>`, scored by when its heartbeat expires, in ms. */
  get workers(): string {
    return `${this.prefix}:{models}:workers`;
  }

  /** Sorted set: members of `workers` that ended of themselves, by when, in ms. */
  get departedWorkers(): string {
    return `${this.prefix}:{models}:departed`;
  }

  /** Hash: what a setting left to `auto` means for a model, for all of its workers. */
  get autoSettings(): string {
    return `${this.prefix}:{models}:auto`;
  }

  /** Hash with the files of a tokenizer. */
  tokenizer(digest: string): string {
    return `${this.prefix}:{tokenizer:${digest}}`;
  }

  /** Channel: `<request id> <reason>`, to all workers. */
  get cancels(): string {
    return `${this.prefix}:cancels`;
  }

  /** `<request id> <digest>` that an idempotency key stands for. */
  reservation({ tenant, key }: { readonly tenant: TenantId; readonly key: string }): string {
    return `${this.prefix}:{key:${encodeURIComponent(tenant)}:${key}}`;
  }

  /**
   * A file's pieces (list) and what is known of it once it is complete. Files of a batch share its
   * hash tag.
   */
  file(id: string): { readonly chunks: string; readonly meta: string } {
    const [, hex = '', kind = ''] = /^file-([0-9a-f]{32})(.*)$/.exec(id) ?? [];
    const tag = `${this.prefix}:{file:${hex}}`;
    return { chunks: `${tag}:chunks${kind}`, meta: `${tag}:meta${kind}` };
  }

  filesOf(tenant: TenantId): FilesKeys {
    const tag = `${this.prefix}:{files:${encodeURIComponent(tenant)}}`;
    return { index: `${tag}:index`, expiries: `${tag}:expiries`, sizes: `${tag}:sizes` };
  }

  /** Hash: the state of a batch (batch-scripts.ts). */
  batch(id: string): string {
    return `${this.prefix}:{file:${id.slice('batch_'.length)}}:batch`;
  }

  /** Sorted set of a tenant's batches, in order of age by their ids. */
  batchesOf(tenant: TenantId): string {
    return `${this.prefix}:{batches:${encodeURIComponent(tenant)}}:index`;
  }

  /** Sorted set of a tenant's batches that have not ended, by when they are over at the latest. */
  openBatchesOf(tenant: TenantId): string {
    return `${this.prefix}:{batches:${encodeURIComponent(tenant)}}:open`;
  }

  /** Sorted set: batches that have not ended, by when somebody is to see to them, in ms. */
  get dueBatches(): string {
    return `${this.prefix}:{batches}:due`;
  }

  /** BullMQ's `prefix` and name of the queue of batches. */
  get batchQueue(): { readonly prefix: string; readonly name: string } {
    return { prefix: `${this.prefix}:{batches}`, name: 'batches' };
  }

  /** Channel: the id of a request whose outbox has a new entry. */
  get notices(): string {
    return `${this.prefix}:notices`;
  }

  /** Sorted set: requests whose outbox somebody is to look at, by when at the latest, in ms. */
  get pendingJobs(): string {
    return `${this.prefix}:{jobs}:pending`;
  }

  /** Sorted set: ids of a tenant's background requests, by when they were made, in ms. */
  jobsOf(tenant: TenantId): string {
    return `${this.prefix}:{jobs:${encodeURIComponent(tenant)}}:index`;
  }

  /** Stream of a tenant's notices, each as `ListedNotice` (webhook.ts). */
  noticesOf(tenant: TenantId): string {
    return `${this.prefix}:{jobs:${encodeURIComponent(tenant)}}:events`;
  }

  /** BullMQ's `prefix` and name of the queue of deliveries. */
  get deliveries(): { readonly prefix: string; readonly name: string } {
    return { prefix: `${this.prefix}:{webhooks}`, name: 'deliveries' };
  }

  /** List of attempts to deliver what there is to say of a request or batch. */
  deliveriesOf(subject: string): string {
    return `${this.prefix}:{${subject}}:deliveries`;
  }

  /** List of notices that no request's script has written, and of deliveries to be sent again. */
  get webhookOutbox(): string {
    return `${this.prefix}:{webhooks}:outbox`;
  }

  /**
   * Sorted set of webhook ids by when they were given up, in ms; for each a hash: `letter`, what is
   * known of it, and `delivery`, what to send again.
   */
  deadLettersOf(tenant: TenantId): {
    readonly index: string;
    readonly letter: (webhookId: string) => string;
  } {
    const tag = `${this.prefix}:{jobs:${encodeURIComponent(tenant)}}`;
    return { index: `${tag}:dead-letters`, letter: (id) => `${tag}:dead-letter:${id}` };
  }

  /** Sorted set of URLs by when they answered that they are gone, in ms. */
  disabledEndpointsOf(tenant: TenantId): string {
    return `${this.prefix}:{jobs:${encodeURIComponent(tenant)}}:disabled-endpoints`;
  }

  /** Sorted set of the webhook ids that were listed among the tenant's events, by when. */
  seenNoticesOf(tenant: TenantId): string {
    return `${this.prefix}:{jobs:${encodeURIComponent(tenant)}}:seen`;
  }
}

/** Names a model and a fingerprint in the registry. */
export function servedModelField({ model, fingerprint }: QueueOf): string {
  return `${encodeURIComponent(model)}@${encodeURIComponent(fingerprint)}`;
}
