import type { RequestId } from '../../shared/ids.ts';
import { tokensToResume } from '../../shared/protocol/endless.ts';
import { encodeEventId, type RequestEvent } from '../../shared/protocol/event.ts';
import type { PublishedChoice } from '../../shared/protocol/generation.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { RequestScripts, TrimmedChoice } from '../../shared/protocol/request-scripts.ts';

/** A place in the log, when it was reached, and how far each choice had come there. */
interface Mark {
  readonly atMs: number;
  readonly seq: number;
  readonly choices: readonly TrimmedChoice[];
}

export interface LogTrimmerOptions {
  readonly id: RequestId;
  readonly epoch: number;
  /** Length of the log when the request was claimed. */
  readonly nextSeq: number;
  readonly contextPolicy: Job['contextPolicy'];
  /** What the log held then. */
  readonly published: readonly PublishedChoice[];
  /** Events younger than this stay. */
  readonly retentionMs: number;
  readonly now: () => number;
}

/** Places noted within the retention: the log is longer than it by a part of this at most. */
const NUM_MARKS = 60;

/**
 * Cuts the log of an endless request behind its readers: what is older than the retention goes,
 * unless a worker that takes over would need it.
 *
 * Ids of events say nothing of time, so places of the log are noted as they are reached.
 */
export class LogTrimmer {
  readonly #scripts: RequestScripts;
  readonly #options: LogTrimmerOptions;
  readonly #choices: TrimmedChoice[];
  #marks: Mark[]; // oldest first

  constructor(scripts: RequestScripts, options: LogTrimmerOptions) {
    this.#scripts = scripts;
    this.#options = options;
    this.#choices = options.published.map(({ tokenIds, numTrimmed = 0, ...choice }) => ({
      numTokens: numTrimmed + tokenIds.length,
      textLength: choice.textLength,
      hasEcho: choice.hasEcho,
      finishReason: choice.finishReason,
    }));
    this.#marks = [this.#markAt(options.nextSeq)];
  }

  /** Takes note of what was written, and cuts the log where it is due. */
  async addWritten(events: readonly RequestEvent[], nextSeq: number): Promise<void> {
    for (const event of events) this.#take(event);
    const { now, retentionMs } = this.#options;
    const lastMs = this.#marks.at(-1)?.atMs ?? 0;
    if (now() - lastMs < retentionMs / NUM_MARKS) return;
    this.#marks.push(this.#markAt(nextSeq));
    const mark = this.#marks.findLast((each) => this.#isDue(each));
    if (mark === undefined) return;
    this.#marks = this.#marks.filter(({ seq }) => seq > mark.seq);
    const { id, epoch } = this.#options;
    const firstKept = encodeEventId({ epoch, seq: mark.seq });
    await this.#scripts.trim(id, { epoch, seq: mark.seq, firstKept, choices: mark.choices });
  }

  #take(event: RequestEvent): void {
    if (event.type !== 'echo' && event.type !== 'tokens') return;
    const choice = this.#choices[event.choice];
    if (choice === undefined) return;
    this.#choices[event.choice] =
      event.type === 'echo'
        ? { ...choice, hasEcho: true }
        : {
            ...choice,
            numTokens: choice.numTokens + event.tokenIds.length,
            textLength: choice.textLength + event.text.length,
            finishReason: event.finishReason,
          };
  }

  #markAt(seq: number): Mark {
    return { atMs: this.#options.now(), seq, choices: [...this.#choices] };
  }

  #isDue({ atMs, seq, choices }: Mark): boolean {
    const { now, retentionMs, contextPolicy } = this.#options;
    if (seq === 0 || now() - atMs < retentionMs) return false;
    return this.#choices.every(
      ({ numTokens, finishReason }, i) =>
        finishReason !== null || numTokens - choices[i]!.numTokens >= tokensToResume(contextPolicy),
    );
  }
}
