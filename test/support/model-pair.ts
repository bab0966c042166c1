import { join } from 'node:path';
import type { TokenId } from '../../shared/ids.ts';
import type { SamplingParams } from '../../shared/protocol/job.ts';
import { createTokenizer } from '../../shared/tokenizer.ts';
import { Drafter } from '../../worker/engine/drafter.ts';
import { Speculator } from '../../worker/engine/speculator.ts';
import { openModel } from '../../worker/model/open-model.ts';
import type { ModelRunner } from '../../worker/model/runner.ts';
import type { OutputStore } from '../../worker/speculative/output-store.ts';
import type { DraftPolicy } from '../../worker/speculative/policy.ts';
import {
  MAX_DRAFT_TOKENS,
  PROPOSERS,
  type ProposerName,
} from '../../worker/speculative/proposer.ts';
import { toOpenedModel } from '../../worker/thread/opened-model.ts';
import prompts from '../fixtures/prompts.json' with { type: 'json' };
import { contextOf, type ServedModel } from './engine-driver.ts';
import { FixedPolicy } from './fixed-policy.ts';
import { integerFrom, pickFrom, seededRng } from './random.ts';
import { TinyModel } from './tiny-model.ts';

/** A target and a draft model that often disagree, and requests that make a difference to them. */
export interface ModelPair extends AsyncDisposable {
  readonly target: ServedModel;
  readonly draft: ModelRunner;
  readonly prompts: readonly (readonly TokenId[])[];
  readonly logitBias: SamplingParams['logitBias'];
  /** Makes the end come now and then. */
  readonly eosBias: number;
  readonly stop: readonly string[];
}

export interface SpeculatorOptions {
  readonly proposer: ProposerName;
  readonly numDraftTokens: number;
  readonly maxSequences: number;
  readonly outputs: OutputStore | null;
  /** Is told of every draft that was verified. */
  readonly watch?: DraftPolicy['observeVerified'];
}

/** A speculator that always drafts the same number of tokens, if it can. */
export function createSpeculator(draft: ModelRunner, options: SpeculatorOptions): Speculator {
  const { proposer, numDraftTokens, watch } = options;
  const policy = new FixedPolicy([proposer], numDraftTokens);
  return toSpeculator(
    draft,
    watch === undefined ? policy : Object.assign(policy, { observeVerified: watch }),
    { ...options, proposers: [proposer] },
  );
}

/**
 * A speculator that drafts so many tokens, none included, with such a proposer, as the dice say.
 */
export function createErraticSpeculator(
  draft: ModelRunner,
  options: Omit<SpeculatorOptions, 'proposer' | 'numDraftTokens'>,
): Speculator {
  const rng = seededRng(21);
  const plan: DraftPolicy['plan'] = (rows) =>
    rows.map(({ candidates }) => {
      if (candidates.length === 0 || rng() < 0.1) return null;
      const { proposer, maxTokens } = pickFrom(rng, candidates);
      return { proposer, numTokens: integerFrom(rng, 0, maxTokens + 1) };
    });
  const policy = Object.assign(new FixedPolicy([], 0), { plan, goesOn: () => rng() < 0.8 });
  return toSpeculator(draft, policy, { ...options, proposers: PROPOSERS });
}

function toSpeculator(
  draft: ModelRunner,
  policy: DraftPolicy,
  options: Pick<SpeculatorOptions, 'maxSequences' | 'outputs'> & {
    readonly proposers: readonly ProposerName[];
  },
): Speculator {
  return new Speculator({
    policy,
    drafter: new Drafter(draft, options.maxSequences),
    rest: null,
    outputs: options.outputs,
    proposers: new Set(options.proposers),
    maxDraftTokens: MAX_DRAFT_TOKENS,
    now: () => 0,
  });
}

/**
 * A draft model that says what another would, but for the tokens at some positions: there, each
 * token has the logit of the one before it.
 */
export function errAt(runner: ModelRunner, isWrong: (position: number) => boolean): ModelRunner {
  const { vocabSize } = runner.shape;
  return {
    shape: runner.shape,
    async run(input) {
      const output = await runner.run(input);
      const logits = output.logits.slice();
      for (const [i, index] of input.logitIndices.entries()) {
        if (!isWrong(input.positions[index]! + 1)) continue;
        const row = output.logits.subarray(i * vocabSize, (i + 1) * vocabSize);
        logits.set(row.subarray(0, -1), i * vocabSize + 1);
        logits[i * vocabSize] = row.at(-1)!;
      }
      return { ...output, logits };
    },
    close: () => runner.close(),
  };
}

/** The model that the service ships with, its draft model, and 200 openings of stories. */
export async function openStoriesPair(cacheDir: string): Promise<ModelPair> {
  const open = (name: string) =>
    openModel({
      modelDir: join(import.meta.dirname, '../../infra/models', name),
      cacheDir,
      executionProvider: 'cpu',
      weightFormat: 'fp32',
      numThreads: 2,
    });
  const target = await open('stories-target');
  const draft = await open('stories-draft');
  const { tokenizerFiles, eosTokenIds, shape } = toOpenedModel(target);
  const tokenizer = createTokenizer(tokenizerFiles);
  const encode = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
  return {
    target: {
      runner: target.runner,
      context: {
        tokenBytes: tokenizer.tokenBytes,
        numLeadingSpaces: tokenizer.numLeadingSpaces,
        describe: (tokenId) => ({ text: tokenizer.tokenText(tokenId), bytes: [] }),
        eosTokenIds,
        maxSequenceTokens: shape.maxSequenceTokens,
        now: () => 0,
      },
    },
    draft: draft.runner,
    prompts: prompts.map((text) => tokenizer.encode(text, { addSpecialTokens: true })),
    logitBias: [
      [encode(' the')[0]!, -2],
      [encode(',')[0]!, 1.5],
      [encode(' very')[0]!, 4],
    ],
    eosBias: 9,
    stop: ['ly', 'd to', '. S'],
    async [Symbol.asyncDispose]() {
      await target.runner.close();
      await draft.runner.close();
    },
  };
}

/** The least that will do, in plain TypeScript: the draft model errs at two positions in five. */
export function createTinyPair(): ModelPair {
  const target = forgetful(new TinyModel());
  const rng = seededRng(11);
  return {
    target: { runner: target, context: contextOf(new TinyModel()) },
    draft: errAt(forgetful(new TinyModel()), (position) => position % 5 < 2),
    prompts: Array.from({ length: 40 }, () =>
      Array.from({ length: integerFrom(rng, 2, 20) }, () => integerFrom(rng, 3, 16)),
    ),
    logitBias: [
      [3, -1],
      [8, 2],
    ],
    eosBias: 3,
    stop: ['ab', 'd a', 'cc'],
    async [Symbol.asyncDispose]() {},
  };
}

/** The model without the record of its calls, which grows. */
function forgetful(model: TinyModel): ModelRunner {
  return {
    shape: model.shape,
    async run(input) {
      const output = await model.run(input);
      model.calls.length = 0;
      return output;
    },
    close: () => model.close(),
  };
}
