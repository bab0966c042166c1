import { z } from 'zod';
import type { RequestId } from '../ids.ts';
import { CLAIM, ENTER, RELEASE } from './claim-scripts.ts';
import type { Keys } from './keys.ts';
import { type ChoiceProgress, choiceProgressSchema } from './progress.ts';
import { APPEND, CANCEL, CREATE, FINISH, LEAVE, type Script, TRIM } from './scripts.ts';

/** What is wanted of a Redis client to run scripts. */
export interface ScriptHost {
  evalsha(sha1: string, numKeys: number, ...args: (string | number)[]): Promise<unknown>;
  eval(lua: string, numKeys: number, ...args: (string | number)[]): Promise<unknown>;
}

const sha1ByScript = new Map<Script, string>();

async function sha1Of(script: Script): Promise<string> {
  const known = sha1ByScript.get(script);
  if (known !== undefined) return known;
  const digest = await crypto.subtle.digest('SHA-1', new TextEncoder().encode(script.lua));
  const hex = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0'));
  sha1ByScript.set(script, hex.join(''));
  return hex.join('');
}

/** Runs a script by its digest, and in full where Redis does not know it yet. */
export async function runScript(
  host: ScriptHost,
  script: Script,
  keys: readonly string[],
  args: readonly (string | number)[],
): Promise<unknown> {
  const sha1 = await sha1Of(script);
  try {
    return await host.evalsha(sha1, keys.length, ...keys, ...args);
  } catch (error) {
    if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error;
    return host.eval(script.lua, keys.length, ...keys, ...args);
  }
}

/** `expired`: cut short by its deadline. */
export const END_STATUSES = ['succeeded', 'failed', 'cancelled', 'expired'] as const;
export type EndStatus = (typeof END_STATUSES)[number];

export const CANCEL_REASONS = ['cancelled', 'deadline'] as const;
export type CancelReason = (typeof CANCEL_REASONS)[number];

const cancelSchema = z.union([z.enum(CANCEL_REASONS), z.literal('').transform(() => null)]);

const claimReplySchema = z.union([
  z.tuple([z.enum(['ended', 'unknown'])]).transform(([type]) => ({ type })),
  z
    .tuple([z.literal('claimed'), z.int(), z.int(), z.int(), z.string(), cancelSchema, z.number()])
    .transform(([type, epoch, nextSeq, numClaims, job, cancel, queuedMs]) => ({
      type,
      epoch,
      nextSeq,
      /** Claims in a row that led nowhere, with this one, entered or not. */
      numClaims,
      job,
      cancel,
      queuedMs,
    })),
]);

export type ClaimReply = z.infer<typeof claimReplySchema>;
export type Claim = Extract<ClaimReply, { type: 'claimed' }>;

/** Whether a claim may still write, or why not. */
const standingSchema = z.enum(['ok', 'fenced', 'ended', 'unknown', 'gap']);

const writeReplySchema = z
  .tuple([standingSchema, z.int(), cancelSchema, z.int()])
  .transform(([type, nextSeq, cancel, unheardMs]) => ({
    type,
    nextSeq,
    cancel,
    /** For how long nobody has listened. */
    unheardMs,
  }));

export type WriteReply = z.infer<typeof writeReplySchema>;

export interface Write {
  readonly epoch: number;
  readonly firstSeq: number;
  /** Encoded events. */
  readonly payloads: readonly string[];
  /** Encoded, as it is with these events; absent where the whole log tells. */
  readonly progress?: string;
}

export interface LastWrite extends Write {
  readonly status: EndStatus;
}

export interface CreateOptions {
  /** How long it is kept at least after its end. */
  readonly keepMs?: number | undefined;
  /** Whether what happens to it goes to its outbox. */
  readonly isNotified?: boolean;
}

/** @param text field `trimmed` of the state: how far each choice had come where its log was cut */
export function decodeTrimmed(text: string): ChoiceProgress[] {
  return z.array(choiceProgressSchema).parse(JSON.parse(text));
}

/** Where the log of a request begins that was cut. */
export interface TrimmedLog {
  /** Seq of the first event that is kept. */
  readonly to: number;
  /** How far each choice had come there: [numChoices]. */
  readonly choices: readonly ChoiceProgress[];
}

export interface Cut {
  /** Of the first event that stays. */
  readonly seq: number;
  /** Its id, or one between it and the event before. */
  readonly firstKept: string;
  /** [numChoices] */
  readonly choices: readonly ChoiceProgress[];
}

export interface Trim {
  readonly epoch: number;
  /** Encoded. */
  readonly marks: string;
  readonly cut: Cut | null;
}

export interface RequestScriptsOptions {
  /** Whether Redis is a cluster: events are then published to the request's own node alone. */
  readonly isCluster: boolean;
  /** How long an ended request is kept. */
  readonly retentionMs: number;
}

/**
 * A request that nobody claimed is forgotten after this long: its edge died before it was queued.
 */
const UNCLAIMED_MS = 7 * 24 * 3_600_000;

/** The transitions of a request, as typed calls of the scripts. */
export class RequestScripts {
  readonly #host: ScriptHost;
  readonly #keys: Keys;
  readonly #publish: 'PUBLISH' | 'SPUBLISH';
  readonly #retentionMs: number;

  constructor(host: ScriptHost, keys: Keys, { isCluster, retentionMs }: RequestScriptsOptions) {
    this.#host = host;
    this.#keys = keys;
    this.#publish = isCluster ? 'SPUBLISH' : 'PUBLISH';
    this.#retentionMs = retentionMs;
  }

  /** @returns whether the id was new */
  async create(id: RequestId, job: string, options: CreateOptions = {}): Promise<boolean> {
    const { state, outbox } = this.#keys.request(id);
    const channel = options.isNotified ? this.#keys.notices : '';
    const args = [job, UNCLAIMED_MS, options.keepMs ?? 0, channel];
    return (await runScript(this.#host, CREATE, [state, outbox], args)) === 1;
  }

  /**
   * @param minProgress events since the last counted claim that make this one the first again
   * @param maxEntered claims in a row that are held against the request at once; later ones are to
   *   be entered when it is tried
   */
  async claim(
    id: RequestId,
    workerId: string,
    minProgress: number,
    maxEntered: number = Number.MAX_SAFE_INTEGER,
  ): Promise<ClaimReply> {
    const { state, log, claims, outbox } = this.#keys.request(id);
    const keys = [state, log, claims, outbox];
    const args = [workerId, minProgress, maxEntered];
    return claimReplySchema.parse(await runScript(this.#host, CLAIM, keys, args));
  }

  /** Enters a claim that was not when it was made. */
  async enter(id: RequestId, workerId: string, epoch: number): Promise<WriteReply['type']> {
    const { state, claims } = this.#keys.request(id);
    return standingSchema.parse(
      await runScript(this.#host, ENTER, [state, claims], [workerId, epoch]),
    );
  }

  /** @returns how many readers have left, 0 for an unknown request */
  async leave(id: RequestId): Promise<number> {
    const { state } = this.#keys.request(id);
    return z.int().parse(await runScript(this.#host, LEAVE, [state], []));
  }

  async append(
    id: RequestId,
    { epoch, firstSeq, payloads, progress = '' }: Write,
  ): Promise<WriteReply> {
    const { state, log, events } = this.#keys.request(id);
    const args = [epoch, firstSeq, this.#publish, progress, ...payloads];
    return writeReplySchema.parse(await runScript(this.#host, APPEND, [state, log, events], args));
  }

  async finish(id: RequestId, write: LastWrite): Promise<WriteReply> {
    const { state, log, events, claims, outbox } = this.#keys.request(id);
    const { epoch, firstSeq, status, payloads } = write;
    const args = [epoch, firstSeq, this.#publish, status, this.#retentionMs, ...payloads];
    const keys = [state, log, events, claims, outbox];
    return writeReplySchema.parse(await runScript(this.#host, FINISH, keys, args));
  }

  /** @param payloads the whole log of the request if it has not begun, as encoded events */
  async cancel(
    id: RequestId,
    reason: CancelReason,
    payloads: readonly string[],
  ): Promise<'ended' | 'asked' | 'unknown'> {
    const { state, log, events, claims, outbox } = this.#keys.request(id);
    const channel = this.#keys.cancels;
    const args = [reason, this.#publish, this.#retentionMs, channel, id, ...payloads];
    const keys = [state, log, events, claims, outbox];
    const reply = await runScript(this.#host, CANCEL, keys, args);
    return z.enum(['ended', 'asked', 'unknown']).parse(reply);
  }

  /** Keeps the marks of a running request and cuts its log. @returns whether it was cut */
  async trim(id: RequestId, { epoch, marks, cut }: Trim): Promise<boolean> {
    const { state, log } = this.#keys.request(id);
    const { seq, firstKept, choices } = cut ?? { seq: 0, firstKept: '', choices: [] };
    const args = [epoch, marks, seq, firstKept, JSON.stringify(choices)];
    return (await runScript(this.#host, TRIM, [state, log], args)) === 1;
  }

  /** @returns whether the request was this epoch's to give */
  async release(id: RequestId, epoch: number): Promise<boolean> {
    const { state, claims } = this.#keys.request(id);
    return (await runScript(this.#host, RELEASE, [state, claims], [epoch])) === 1;
  }
}
