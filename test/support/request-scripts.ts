import { createRequestId, type RequestId } from '../../shared/ids.ts';
import { Keys, type RequestKeys } from '../../shared/protocol/keys.ts';
import { type Claim, RequestScripts } from '../../shared/protocol/request-scripts.ts';
import { openTestRedis, type TestRedis } from './redis.ts';

export const RETENTION_MS = 60_000;

/** The scripts of requests on a Redis of the test file's own. */
export class ScriptsBench implements AsyncDisposable {
  readonly redis: TestRedis;
  readonly scripts: RequestScripts;
  readonly #keys = new Keys('test');

  constructor(redis: TestRedis) {
    this.redis = redis;
    this.scripts = this.over(redis.client);
  }

  static async open(): Promise<ScriptsBench> {
    return new ScriptsBench(await openTestRedis());
  }

  get cancels(): string {
    return this.#keys.cancels;
  }

  over(client: TestRedis['client']): RequestScripts {
    return new RequestScripts(client, this.#keys, { isCluster: false, retentionMs: RETENTION_MS });
  }

  keysOf(id: RequestId): RequestKeys {
    return this.#keys.request(id);
  }

  async queued(): Promise<RequestId> {
    const id = createRequestId();
    await this.scripts.create(id, 'the job');
    return id;
  }

  async claim(id: RequestId, worker = 'w', minProgress = 8): Promise<Claim> {
    const reply = await this.scripts.claim(id, worker, minProgress);
    if (reply.type !== 'claimed') throw new Error(`not claimed: ${reply.type}`);
    return reply;
  }

  async logOf(id: RequestId): Promise<string> {
    const entries = await this.redis.client.xrange(this.keysOf(id).log, '-', '+');
    return entries.map(([entryId, fields]) => `${entryId} ${fields[1]}`).join(', ');
  }

  field(id: RequestId, name: string): Promise<string | null> {
    return this.redis.client.hget(this.keysOf(id).state, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.redis[Symbol.asyncDispose]();
  }
}
