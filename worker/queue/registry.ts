import { JOB_CLASSES, type JobClass } from '../../shared/protocol/job.ts';
import { type Keys, servedModelField } from '../../shared/protocol/keys.ts';
import {
  encodeModelCard,
  type ModelCard,
  type TokenizerFiles,
} from '../../shared/protocol/model-card.ts';
import { DEPART, HEARTBEAT, REPORT_RATE } from '../../shared/protocol/registry-scripts.ts';
import { runScript, type ScriptHost } from '../../shared/protocol/request-scripts.ts';
import type { RedisClient } from './connection.ts';

const HEARTBEAT_MS = 1000;
/** Four heartbeats, so that a busy moment does not take a worker off the list. */
export const OVERDUE_MS = 4000;

export interface Registration {
  readonly card: ModelCard;
  readonly tokenizerFiles: TokenizerFiles;
  readonly workerId: string;
  /**
   * Requests of a class that it can finish a second, told with every heartbeat; 0 while nothing is
   * measured.
   */
  readonly ratePerSecond: (jobClass: JobClass) => number;
  /** Requests of a class that it takes at a time; absent when it does not say. */
  readonly maxRunning?: number;
}

/** Tells edge what this worker serves, again and again until disposed. */
export async function register(
  client: RedisClient,
  host: ScriptHost,
  keys: Keys,
  { card, tokenizerFiles, workerId, ratePerSecond, maxRunning }: Registration,
): Promise<AsyncDisposable> {
  const queue = { model: card.name, fingerprint: card.fingerprint };
  const field = servedModelField(queue);
  const rates = JOB_CLASSES.map((each) => [each, keys.rates({ ...queue, class: each })] as const);
  const member = `${field} ${workerId}`;
  const tokenizer = keys.tokenizer(card.tokenizerDigest);
  let isBeating = false;

  async function beat(): Promise<void> {
    if (isBeating) return; // Redis is away; the beat under way will be sent when it is back
    isBeating = true;
    try {
      const args = [field, encodeModelCard(card), member, OVERDUE_MS];
      if ((await client.exists(tokenizer)) === 0) await client.hset(tokenizer, tokenizerFiles);
      await runScript(host, HEARTBEAT, [keys.modelCards, keys.workers, keys.modelsServed], args);
      for (const [each, key] of rates) {
        const args = [workerId, ratePerSecond(each), OVERDUE_MS, maxRunning ?? ''];
        await runScript(host, REPORT_RATE, [key], args);
      }
    } finally {
      isBeating = false;
    }
  }

  await beat();
  const timer = setInterval(() => void beat().catch(() => undefined), HEARTBEAT_MS);
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      if (client.status !== 'ready') return;
      await runScript(host, DEPART, [keys.workers, keys.departedWorkers], [member]);
      for (const [, key] of rates) await client.hdel(key, workerId);
    },
  };
}

export interface AutoSetting {
  readonly model: string;
  /** With all that the choice depends on: workers that differ in it choose for themselves. */
  readonly setting: string;
  /** What this worker would choose; asked only while nobody else has. */
  readonly choose: () => Promise<string>;
}

/**
 * What a setting left to `auto` means: the choice of the first worker that asked for this model.
 */
export async function settleAuto(
  client: RedisClient,
  keys: Keys,
  { model, setting, choose }: AutoSetting,
): Promise<string> {
  const field = `${encodeURIComponent(model)}:${setting}`;
  const settled = await client.hget(keys.autoSettings, field);
  if (settled !== null) return settled;
  const choice = await choose();
  await client.hsetnx(keys.autoSettings, field, choice);
  return (await client.hget(keys.autoSettings, field)) ?? choice;
}
