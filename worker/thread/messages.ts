import type { RequestId } from '../../shared/ids.ts';
import type { FinishReason } from '../../shared/protocol/event.ts';
import type { Beginning } from '../../shared/protocol/generation.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { EngineUsage, Update } from '../engine/engine.ts';
import type { SchedulerLimits } from '../engine/scheduler.ts';
import type { ExecutionProvider, WeightFormat } from '../model/builder.ts';
import type { ProposerName } from '../speculative/proposer.ts';
import type { OpenedModel } from './opened-model.ts';

export interface SpeculationOptions {
  /** `null` for none. */
  readonly draftModelDir: string | null;
  /** `auto` for the one that is fastest on this machine. */
  readonly draftWeightFormat: WeightFormat | 'auto';
  /** Proposers that may be used; none switches speculation off. */
  readonly proposers: readonly ProposerName[];
  readonly maxDraftTokens: number;
}

/** What the engine thread is started with. */
export interface ThreadOptions {
  readonly modelDir: string;
  readonly cacheDir: string;
  readonly executionProvider: ExecutionProvider;
  readonly weightFormat: WeightFormat;
  readonly numThreads: number;
  readonly limits: SchedulerLimits;
  /** Memory for keys and values of running requests, and of prefixes that may come again. */
  readonly kvCacheBytes: number;
  readonly prefixCacheBytes: number;
  readonly speculation: SpeculationOptions;
}

/** Main thread to engine thread. */
export type Command =
  | { readonly type: 'start'; readonly job: Job; readonly beginning: Beginning }
  | { readonly type: 'proceed'; readonly id: RequestId }
  | { readonly type: 'cancel'; readonly id: RequestId; readonly reason: FinishReason }
  | { readonly type: 'release'; readonly id: RequestId }
  | { readonly type: 'measure' }
  | { readonly type: 'close' };

/** Engine thread to main thread. */
export type Report =
  | { readonly type: 'ready'; readonly model: OpenedModel }
  | { readonly type: 'refused'; readonly message: string }
  | { readonly type: 'updates'; readonly updates: readonly Update[] }
  | { readonly type: 'released'; readonly id: RequestId }
  | { readonly type: 'measured'; readonly usage: EngineUsage }
  | { readonly type: 'closed' };
