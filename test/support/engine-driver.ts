import { createRequestId, type RequestId, type TokenId, toTenantId } from '../../shared/ids.ts';
import type { TokenLogprobs } from '../../shared/protocol/event.ts';
import {
  type GenerationEvent,
  NOTHING_PUBLISHED,
  type PublishedChoice,
} from '../../shared/protocol/generation.ts';
import { type Job, numChoices } from '../../shared/protocol/job.ts';
import { Engine } from '../../worker/engine/engine.ts';
import type { GenerationContext } from '../../worker/engine/generation.ts';
import { DEFAULT_QUANTUM_TOKENS } from '../../worker/engine/scheduler.ts';
import type { Speculator } from '../../worker/engine/speculator.ts';
import type { ModelRunner } from '../../worker/model/runner.ts';
import { PLAIN_PARAMS } from './plain-sampling.ts';
import { TinyModel } from './tiny-model.ts';
import { describeTinyToken, EOS, tinyTokenBytes } from './tiny-tokens.ts';

/** A completion of one prompt, greedy, as the engine gets it. */
export function engineJob(fields: Partial<Job> = {}): Job {
  return {
    version: 1,
    id: createRequestId(),
    tenant: toTenantId('default'),
    endpoint: 'completions',
    model: 'tiny',
    fingerprint: 'tiny',
    createdMs: 0,
    deadlineMs: null,
    priority: 1000,
    prompts: [[3, 4, 5]],
    n: 1,
    sampling: { ...PLAIN_PARAMS, temperature: 0 },
    maxTokens: 8,
    stop: [],
    topLogprobs: null,
    echo: false,
    ignoreEos: false,
    stream: true,
    includeUsage: false,
    speculation: 'off',
    prediction: null,
    contextPolicy: { type: 'stop' },
    onDisconnect: 'cancel',
    ...fields,
  };
}

/** A model, and what the engine must know to turn its tokens into text. */
export interface ServedModel {
  readonly runner: ModelRunner;
  readonly context: GenerationContext;
}

export interface DriverOptions {
  readonly model?: TinyModel;
  /** A model in place of the tiny one. */
  readonly served?: ServedModel;
  readonly maxSequences?: number;
  readonly maxBatchedTokens?: number;
  readonly quantumTokens?: number;
  readonly kvCacheBytes?: number;
  readonly prefixCacheBytes?: number;
  readonly speculator?: Speculator;
}

export function contextOf(model: TinyModel): GenerationContext {
  return {
    tokenBytes: tinyTokenBytes,
    numLeadingSpaces: 0,
    describe: describeTinyToken,
    eosTokenIds: [EOS],
    maxSequenceTokens: model.shape.maxSequenceTokens,
    now: () => 0,
  };
}

/** An engine, over the tiny model unless told otherwise, and what it has said so far. */
export class EngineDriver {
  readonly model: TinyModel;
  readonly engine: Engine;
  readonly eventsById = new Map<RequestId, GenerationEvent[]>();

  constructor(options: DriverOptions = {}) {
    this.model = options.model ?? new TinyModel();
    const { runner, context } = options.served ?? {
      runner: this.model,
      context: contextOf(this.model),
    };
    this.engine = new Engine({
      runner,
      limits: {
        maxSequences: options.maxSequences ?? 16,
        maxBatchedTokens: options.maxBatchedTokens ?? 64,
        quantumTokens: options.quantumTokens ?? DEFAULT_QUANTUM_TOKENS,
      },
      kvCacheBytes: options.kvCacheBytes ?? Infinity,
      prefixCacheBytes: options.prefixCacheBytes ?? 0,
      speculator: options.speculator ?? null,
      context,
    });
  }

  start(job: Job, published?: readonly PublishedChoice[], isHeld = false): void {
    this.eventsById.set(job.id, []);
    const nothing = Array<PublishedChoice>(numChoices(job)).fill(NOTHING_PUBLISHED);
    this.engine.start(job, { choices: published ?? nothing, isHeld });
  }

  async step(): Promise<void> {
    await this.engine.step();
    for (const { id, events } of this.engine.takeUpdates()) {
      const known = this.eventsById.get(id);
      if (known === undefined) throw new Error(`news of ${id}, which was released`);
      known.push(...events);
    }
  }

  release(id: RequestId): void {
    this.engine.release(id);
    this.eventsById.delete(id);
  }

  /** Steps until nothing is left to do. */
  async finish(): Promise<void> {
    for (let step = 0; !this.engine.isIdle; step += 1) {
      if (step > 5_000) throw new Error('the engine does not come to an end');
      await this.step();
    }
  }

  eventsOf({ id }: Pick<Job, 'id'>): readonly GenerationEvent[] {
    return this.eventsById.get(id) ?? [];
  }
}

/** Runs a job by itself. */
export async function generate(
  job: Job,
  options: DriverOptions = {},
  published?: readonly PublishedChoice[],
): Promise<readonly GenerationEvent[]> {
  const driver = new EngineDriver(options);
  driver.start(job, published);
  await driver.finish();
  return driver.eventsOf(job);
}

/** All that was said of one choice. */
export interface ChoiceSoFar {
  echo: { readonly text: string; readonly logprobs: readonly TokenLogprobs[] | null } | null;
  tokenIds: TokenId[];
  text: string;
  logprobs: TokenLogprobs[] | null;
  finishReason: PublishedChoice['finishReason'];
}

/** @throws {Error} where events come in an order that they may not come in */
export function foldChoices(
  events: readonly GenerationEvent[],
  count: number,
): readonly ChoiceSoFar[] {
  const choices = Array.from(
    { length: count },
    (): ChoiceSoFar => ({
      echo: null,
      tokenIds: [],
      text: '',
      logprobs: null,
      finishReason: null,
    }),
  );
  for (const [i, event] of events.entries()) {
    if (event.type === 'end' || event.type === 'error') {
      if (i < events.length - 1) throw new Error(`events after ${event.type}`);
      continue;
    }
    if (event.type === 'due') continue;
    const choice = choices[event.choice]!;
    if (choice.finishReason !== null) throw new Error('events after the finish reason');
    if (event.type === 'echo') {
      if (choice.echo !== null || choice.tokenIds.length > 0) throw new Error('a late echo');
      choice.echo = { text: event.text, logprobs: event.logprobs };
      continue;
    }
    choice.tokenIds.push(...event.tokenIds);
    choice.text += event.text;
    if (event.logprobs !== null) choice.logprobs = [...(choice.logprobs ?? []), ...event.logprobs];
    choice.finishReason = event.finishReason;
  }
  return choices;
}

/** What a worker that takes over reads of what another has said. */
export function publishedOf(
  events: readonly GenerationEvent[],
  count: number,
): readonly PublishedChoice[] {
  return foldChoices(events, count).map(({ echo, tokenIds, text, finishReason }) => ({
    tokenIds,
    textLength: text.length,
    hasEcho: echo !== null,
    finishReason,
  }));
}
