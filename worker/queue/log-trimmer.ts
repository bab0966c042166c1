import type { RequestId } from '../../shared/ids.ts';
import { isEnoughToResume, tokensToResume } from '../../shared/protocol/endless.ts';
import { countEvent, encodeEventId, type RequestEvent } from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';
import {
  type ChoiceProgress,
  encodeMarks,
  encodeProgress,
  type Mark,
  type Progress,
} from '../../shared/protocol/progress.ts';
import type { RequestScripts } from '../../shared/protocol/request-scripts.ts';
import type { Published } from './published.ts';

/** What of the log of an endless request stays. */
export interface LogLimits {
  /** Events younger than this stay, */
  readonly retentionMs: number;
  /** unless the log grows longer than this, in characters of its events. */
  readonly maxLogLength: number;
}

export interface LogTrimmerOptions extends LogLimits {
  readonly id: RequestId;
  readonly epoch: number;
  readonly job: Pick<Job, 'contextPolicy' | 'stop'>;
  readonly now: () => number;
}

/** Places noted within each limit: the log exceeds it by a part of this at most. */
const NUM_MARKS = 20;

/**
 * Cuts the log of an endless request behind its readers: what is older than the retention or too
 * much goes, unless a worker that takes over would need it.
 *
 * How far the request has come is written with its events, and places of the log are kept in its
 * state as they are reached, so that it is cut however often it changes hands.
 */
export class LogTrimmer {
  readonly #scripts: RequestScripts;
  readonly #options: LogTrimmerOptions;
  #progress: Progress;
  #marks: readonly Mark[]; // oldest first

  constructor(scripts: RequestScripts, options: LogTrimmerOptions, published: Published) {
    this.#scripts = scripts;
    this.#options = options;
    this.#progress = progressOf(published);
    this.#marks = published.marks;
  }

  /** How far the request has come. */
  get progress(): Progress {
    return this.#progress;
  }

  /** @returns how far the request has come with events that are about to be written, encoded */
  addEvents(events: readonly RequestEvent[], payloads: readonly string[]): string {
    const choices = [...this.#progress.choices];
    for (const event of events) {
      if (event.type !== 'echo' && event.type !== 'tokens') continue;
      const choice = choices[event.choice];
      if (choice !== undefined) choices[event.choice] = progressAfter(choice, event);
    }
    const length = payloads.reduce((sum, payload) => sum + payload.length, 0);
    this.#progress = { logLength: this.#progress.logLength + length, choices };
    return encodeProgress(this.#progress);
  }

  /** Takes note of how far the log has come, and cuts it, where that is due. */
  async trim(nextSeq: number): Promise<void> {
    const { id, epoch, now } = this.#options;
    if (!this.#isMarkDue()) return;
    const mark = { atMs: now(), epoch, seq: nextSeq, progress: this.#progress };
    const cut = this.#marks.findLast((each) => this.#canCutAt(each));
    this.#marks = [...this.#marks.filter(({ seq }) => seq > (cut?.seq ?? 0)), mark];
    await this.#scripts.trim(id, {
      epoch,
      marks: encodeMarks(this.#marks),
      cut: cut
        ? { seq: cut.seq, firstKept: encodeEventId(cut), choices: cut.progress.choices }
        : null,
    });
  }

  #isMarkDue(): boolean {
    const last = this.#marks.at(-1);
    if (last === undefined) return true;
    const { now, retentionMs, maxLogLength, job } = this.#options;
    const numTokens = numTokensOf(this.#progress) - numTokensOf(last.progress);
    if (numTokens < tokensToResume(job.contextPolicy) / NUM_MARKS) return false;
    const length = this.#progress.logLength - last.progress.logLength;
    return now() - last.atMs >= retentionMs / NUM_MARKS || length >= maxLogLength / NUM_MARKS;
  }

  #canCutAt({ atMs, progress }: Mark): boolean {
    const { now, retentionMs, maxLogLength, job } = this.#options;
    const isOld = now() - atMs >= retentionMs;
    const isFar = this.#progress.logLength - progress.logLength >= maxLogLength;
    if (!isOld && !isFar) return false;
    return this.#progress.choices.every(({ numTokens, textLength, finishReason }, i) => {
      const before = progress.choices[i]!;
      const end = {
        numTokens: numTokens - before.numTokens,
        textLength: textLength - before.textLength,
      };
      return finishReason !== null || isEnoughToResume(job, end);
    });
  }
}

function progressOf({ choices, logLength }: Published): Progress {
  return {
    logLength,
    choices: choices.map(({ tokenIds, numTrimmed = 0, ...choice }) => ({
      numTokens: numTrimmed + tokenIds.length,
      textLength: choice.textLength,
      hasEcho: choice.hasEcho,
      finishReason: choice.finishReason,
      characters: choice.characters,
    })),
  };
}

function progressAfter(
  choice: ChoiceProgress,
  event: Extract<RequestEvent, { type: 'echo' | 'tokens' }>,
): ChoiceProgress {
  const characters = choice.characters && countEvent(choice.characters, event);
  if (event.type === 'echo') return { ...choice, characters, hasEcho: true };
  return {
    ...choice,
    characters,
    numTokens: choice.numTokens + event.tokenIds.length,
    textLength: choice.textLength + event.text.length,
    finishReason: event.finishReason,
  };
}

function numTokensOf({ choices }: Progress): number {
  return choices.reduce((sum, { numTokens }) => sum + numTokens, 0);
}
