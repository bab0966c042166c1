import { type CharacterCount, NO_CHARACTERS } from '../../shared/characters.ts';
import type { TokenId } from '../../shared/ids.ts';
import { isEnoughToResume } from '../../shared/protocol/endless.ts';
import {
  decodeEvent,
  type EchoEvent,
  type FinishReason,
  type TokensEvent,
} from '../../shared/protocol/event.ts';
import { hasTextOffsets, type Job, numChoices } from '../../shared/protocol/job.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import {
  type ChoiceProgress,
  decodeMarks,
  decodeProgress,
  type Mark,
} from '../../shared/protocol/progress.ts';
import type { PublishedChoice } from './generation.ts';
import type { PatientRedis } from './patient-redis.ts';

/** What earlier claims of a request have left. */
export interface Published {
  readonly choices: readonly PublishedChoice[]; // [numChoices]
  /** Length of the log, as `Progress` has it; 0 where nobody counts. */
  readonly logLength: number;
  /** Oldest first. */
  readonly marks: readonly Mark[];
}

const PAGE_SIZE = 500;

/**
 * How far each choice of a request has come, by what its log holds. That of an endless request is
 * read from its end, and only as far as a worker needs it: what came before is known by its counts.
 */
export async function readPublished(redis: PatientRedis, keys: Keys, job: Job): Promise<Published> {
  const { state, log } = keys.request(job.id);
  const [text, marks] = await redis.ask((client) => client.hmget(state, 'progress', 'marks'));
  const progress = text ? decodeProgress(text) : null;
  const readings = Array.from(
    { length: numChoices(job) },
    (_, choice) => new ChoiceReading(job, progress?.choices[choice] ?? null),
  );
  for (let end = '+'; readings.some(({ isEnough }) => !isEnough); ) {
    const page = await redis.ask((client) => client.xrevrange(log, end, '-', 'COUNT', PAGE_SIZE));
    for (const [, fields] of page) {
      const event = decodeEvent(fields[1] ?? '');
      if (event.type === 'echo' || event.type === 'tokens') readings[event.choice]?.take(event);
    }
    const first = page.at(-1);
    if (first === undefined || page.length < PAGE_SIZE) break;
    end = `(${first[0]}`;
  }
  return {
    choices: readings.map((reading) => reading.toPublished()),
    logLength: progress?.logLength ?? 0,
    marks: marks ? decodeMarks(marks) : [],
  };
}

/** One choice, from its latest event back. */
class ChoiceReading {
  readonly #job: Job;
  /** `null` where it has to be counted. */
  readonly #known: ChoiceProgress | null;
  readonly #pieces: (readonly TokenId[])[] = []; // the latest first
  #numTokens = 0;
  #textLength = 0;
  #hasEcho = false;
  #finishReason: FinishReason | null = null;

  constructor(job: Job, known: ChoiceProgress | null) {
    this.#job = job;
    this.#known = known;
  }

  get isEnough(): boolean {
    if (this.#known === null) return false;
    const end = { numTokens: this.#numTokens, textLength: this.#textLength };
    return this.#known.finishReason !== null || isEnoughToResume(this.#job, end);
  }

  get #characters(): CharacterCount | undefined {
    if (this.#known !== null) return this.#known.characters;
    const isBegun = this.#hasEcho || this.#pieces.length > 0;
    return hasTextOffsets(this.#job) && !isBegun ? NO_CHARACTERS : undefined;
  }

  take(event: EchoEvent | TokensEvent): void {
    if (this.isEnough) return;
    if (event.type === 'echo') {
      this.#hasEcho = true;
      return;
    }
    this.#pieces.push(event.tokenIds);
    this.#numTokens += event.tokenIds.length;
    this.#textLength += event.text.length;
    this.#finishReason ??= event.finishReason;
  }

  toPublished(): PublishedChoice {
    const known = this.#known;
    return {
      tokenIds: this.#pieces.toReversed().flat(),
      numTrimmed: (known?.numTokens ?? this.#numTokens) - this.#numTokens,
      textLength: known?.textLength ?? this.#textLength,
      hasEcho: known?.hasEcho ?? this.#hasEcho,
      finishReason: known?.finishReason ?? this.#finishReason,
      characters: this.#characters,
    };
  }
}
