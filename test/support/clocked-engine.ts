import { Drafter } from '../../worker/engine/drafter.ts';
import { Speculator, type SpeculatorParts } from '../../worker/engine/speculator.ts';
import type { ModelInput, ModelRunner } from '../../worker/model/runner.ts';
import { MAX_DRAFT_TOKENS } from '../../worker/speculative/proposer.ts';
import { contextOf, type DriverOptions, EngineDriver } from './engine-driver.ts';
import { TinyModel } from './tiny-model.ts';

/** Milliseconds of a call, from its input. */
export type CallTime = (input: ModelInput) => number;

export interface ClockedOptions extends Pick<SpeculatorParts, 'policy' | 'rest' | 'proposers'> {
  /** Of the target and, where it is there, of the draft model. */
  readonly targetMs: CallTime;
  readonly draftMs?: CallTime;
  /** Of its own, to see its calls. */
  readonly model?: TinyModel;
  readonly maxSequences?: number;
  readonly maxBatchedTokens?: number;
}

/**
 * An engine over the tiny model whose time is that of its calls and nothing else: what is decided
 * by the clock is the same in every run.
 */
export function openClockedEngine(options: ClockedOptions): EngineDriver {
  const { policy, rest, proposers, targetMs, draftMs, maxSequences = 16 } = options;
  const model = options.model ?? new TinyModel();
  let nowMs = 0;
  const now = () => nowMs;
  const clocked = (runner: ModelRunner, callMs: CallTime): ModelRunner => ({
    shape: runner.shape,
    run(input) {
      nowMs += callMs(input);
      return runner.run(input);
    },
    close: () => runner.close(),
  });
  const driverOptions: DriverOptions = {
    served: { runner: clocked(model, targetMs), context: { ...contextOf(model), now } },
    maxSequences,
    maxBatchedTokens: options.maxBatchedTokens ?? 256,
    speculator: new Speculator({
      policy,
      drafter: draftMs ? new Drafter(clocked(new TinyModel(), draftMs), maxSequences) : null,
      rest,
      outputs: null,
      proposers,
      maxDraftTokens: MAX_DRAFT_TOKENS,
      now,
    }),
  };
  return new EngineDriver(driverOptions);
}
