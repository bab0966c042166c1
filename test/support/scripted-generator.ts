import type { RequestId } from '../../shared/ids.ts';
import { choiceSeed, type Job, numChoices } from '../../shared/protocol/job.ts';
import type {
  Beginning,
  GenerationEvent,
  Generator,
  PublishedChoice,
} from '../../worker/queue/generation.ts';

interface Choice {
  readonly index: number;
  numTokens: number;
  isOver: boolean;
}

interface Generation {
  readonly job: Job;
  readonly choices: readonly Choice[];
  readonly listener: (events: readonly GenerationEvent[]) => void;
  cancelReason: 'cancelled' | 'deadline' | null;
  /** `due`: held, and has said so. */
  hold: 'none' | 'held' | 'due';
}

/** The token of a choice at a position: a pure function of the job, as in the engine. */
export function scriptedTokenId(job: Job, choice: number, position: number): number {
  const seed = choiceSeed(job.sampling.seed, choice);
  return (Math.imul(seed + position, 0x9e3779b1) >>> 16) % 1000;
}

export function scriptedText(job: Job, choice = 0): string {
  const length = job.maxTokens ?? 16;
  return Array.from({ length }, (_, position) => ` ${scriptedTokenId(job, choice, position)}`).join(
    '',
  );
}

/**
 * A generator without a model, for tests of queue and transport: one token of each choice a step,
 * steps by themselves or by hand.
 */
export class ScriptedGenerator implements Generator {
  /** What every start was given, in order. */
  readonly starts: { readonly id: RequestId; readonly published: readonly PublishedChoice[] }[] =
    [];
  /** Requests in the order in which they could be read: those that were held, when let go. */
  readonly begun: RequestId[] = [];
  readonly #byHand: boolean;
  readonly #generationById = new Map<RequestId, Generation>();
  #isScheduled = false;
  #onStart: () => void = () => undefined;

  constructor(mode: 'by-itself' | 'by-hand' = 'by-itself') {
    this.#byHand = mode === 'by-hand';
  }

  get numRunning(): number {
    return this.#generationById.size;
  }

  /** Tokens of all that run. */
  get numTokens(): number {
    const choices = [...this.#generationById.values()].flatMap((generation) => generation.choices);
    return choices.reduce((sum, { numTokens }) => sum + numTokens, 0);
  }

  isCancelled(id: RequestId): boolean {
    return this.#generationById.get(id)?.cancelReason != null;
  }

  start(
    job: Job,
    { choices: published, isHeld = false }: Beginning,
    listener: (events: readonly GenerationEvent[]) => void,
  ): void {
    if (this.#generationById.has(job.id)) throw new Error(`${job.id} started twice`);
    const choices = Array.from({ length: numChoices(job) }, (_, index) => {
      const before = published[index];
      const numTokens = (before?.numTrimmed ?? 0) + (before?.tokenIds.length ?? 0);
      return { index, numTokens, isOver: before?.finishReason != null };
    });
    const hold = isHeld ? 'held' : 'none';
    this.#generationById.set(job.id, { job, choices, listener, cancelReason: null, hold });
    this.starts.push({ id: job.id, published });
    if (!isHeld) this.begun.push(job.id);
    this.#onStart();
    this.#schedule();
  }

  proceed(id: RequestId): void {
    const generation = this.#generationById.get(id);
    if (generation === undefined) return;
    generation.hold = 'none';
    this.begun.push(id);
    this.#schedule();
  }

  cancel(id: RequestId, reason: 'cancelled' | 'deadline'): void {
    const generation = this.#generationById.get(id);
    if (generation !== undefined) generation.cancelReason ??= reason;
    this.#schedule();
  }

  async release(id: RequestId): Promise<void> {
    this.#generationById.delete(id);
  }

  /** Resolves when `count` requests have been started in all. */
  async started(count: number): Promise<void> {
    while (this.starts.length < count) {
      await new Promise<void>((resolve) => {
        this.#onStart = resolve;
      });
    }
  }

  /** One token for every choice of every request; those that are held say that they are due. */
  step(): void {
    for (const [id, generation] of this.#generationById) {
      const events = stepOf(generation);
      if (events.at(-1)?.type === 'end') this.#generationById.delete(id);
      generation.listener(events);
    }
  }

  #schedule(): void {
    const isIdle = [...this.#generationById.values()].every(
      ({ hold, cancelReason }) => hold === 'due' && cancelReason === null,
    );
    if (this.#byHand || this.#isScheduled || isIdle) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.step();
      this.#schedule();
    });
  }
}

function stepOf(generation: Generation): GenerationEvent[] {
  const { job, choices, cancelReason, hold } = generation;
  if (hold !== 'none' && cancelReason === null) {
    generation.hold = 'due';
    return hold === 'held' ? [{ type: 'due' }] : [];
  }
  const events: GenerationEvent[] = [];
  for (const choice of choices) {
    if (choice.isOver) continue;
    const tokenId = scriptedTokenId(job, choice.index, choice.numTokens);
    if (cancelReason === null) choice.numTokens += 1;
    choice.isOver = cancelReason !== null || choice.numTokens >= (job.maxTokens ?? 16);
    events.push({
      type: 'tokens',
      choice: choice.index,
      tokenIds: cancelReason === null ? [tokenId] : [],
      text: cancelReason === null ? ` ${tokenId}` : '',
      logprobs: null,
      finishReason: choice.isOver ? (cancelReason ?? 'length') : null,
    });
  }
  if (choices.every(({ isOver }) => isOver)) events.push(endOf(job, choices));
  return events;
}

function endOf(job: Job, choices: readonly Choice[]): GenerationEvent {
  return {
    type: 'end',
    usage: {
      promptTokens: job.prompts.reduce((sum, prompt) => sum + prompt.length, 0),
      cachedTokens: 0,
      completionTokens: choices.reduce((sum, { numTokens }) => sum + numTokens, 0),
      acceptedPredictionTokens: 0,
      rejectedPredictionTokens: 0,
    },
    timings: { prefillMs: 0, decodeMs: 0 },
    speculation: [],
  };
}
