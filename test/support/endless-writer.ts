import { encodeEvent, type RequestEvent } from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import type { RequestScripts } from '../../shared/protocol/request-scripts.ts';
import { type LogLimits, LogTrimmer } from '../../worker/queue/log-trimmer.ts';
import type { PatientRedis } from '../../worker/queue/patient-redis.ts';
import { readPublished } from '../../worker/queue/published.ts';
import { doneOf } from './fake-transport.ts';

export interface WriterContext {
  readonly scripts: RequestScripts;
  readonly redis: PatientRedis;
  readonly keys: Keys;
  readonly limits: LogLimits;
}

/**
 * The worker of an endless request, which says one token at a time by a clock of its own. Where
 * log-probabilities are wanted, every token is half a character.
 */
export class EndlessWriter {
  nowMs = 0;
  #trimmer: LogTrimmer | null = null;
  #nextSeq = 0;
  #numTokens = 0;
  #epoch = 0;
  readonly #context: WriterContext;
  readonly #job: Job;
  readonly said: RequestEvent[] = [];

  constructor(context: WriterContext, job: Job) {
    this.#context = context;
    this.#job = job;
  }

  async claim(): Promise<void> {
    const { scripts, redis, keys, limits } = this.#context;
    const { id } = this.#job;
    const claim = await scripts.claim(id, 'w', 2);
    if (claim.type !== 'claimed') throw new Error(claim.type);
    const published = await readPublished(redis, keys, this.#job);
    const [choice] = published.choices;
    this.#nextSeq = claim.nextSeq;
    this.#epoch = claim.epoch;
    this.#numTokens = (choice?.numTrimmed ?? 0) + (choice?.tokenIds.length ?? 0);
    const options = { id, epoch: claim.epoch, job: this.#job, now: () => this.nowMs, ...limits };
    this.#trimmer = new LogTrimmer(scripts, options, published);
  }

  /** Says so many tokens, one every `everyMs`. */
  async say(count: number, everyMs: number): Promise<void> {
    for (let i = 0; i < count; i += 1) {
      this.nowMs += everyMs;
      const tokenId = this.#numTokens;
      const event = this.#eventOf(tokenId);
      this.said.push(event);
      const payloads = [encodeEvent(event)];
      const progress = this.#trimmer!.addEvents([event], payloads);
      const write = { epoch: this.#epoch, firstSeq: this.#nextSeq, payloads, progress };
      const reply = await this.#context.scripts.append(this.#job.id, write);
      if (reply.type !== 'ok') throw new Error(reply.type);
      this.#nextSeq = reply.nextSeq;
      this.#numTokens += 1;
      await this.#trimmer!.trim(reply.nextSeq);
    }
  }

  async finish(): Promise<void> {
    const payloads = [encodeEvent(doneOf({ promptTokens: 3, completionTokens: 50 }))];
    const write = { epoch: this.#epoch, firstSeq: this.#nextSeq, payloads };
    await this.#context.scripts.finish(this.#job.id, { ...write, status: 'succeeded' });
  }

  #eventOf(tokenId: number): RequestEvent {
    const half = { id: tokenId, text: '\ufffd', bytes: [tokenId % 2 === 0 ? 0xc3 : 0xa9] };
    const logprobs = this.#job.topLogprobs === null ? null : [{ ...half, logprob: -1, top: [] }];
    const text = ` ${tokenId}`;
    return { type: 'tokens', choice: 0, tokenIds: [tokenId], text, logprobs, finishReason: null };
  }
}
