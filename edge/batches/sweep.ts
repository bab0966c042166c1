import { setTimeout as sleep } from 'node:timers/promises';
import { isBatchEnded } from '../../shared/protocol/batch.ts';
import type { DueBatches } from '../transport/batches.ts';
import { type RunContext, runBatch } from './batch-run.ts';

export interface SweepContext extends RunContext {
  readonly due: DueBatches;
}

const SWEEP_MS = 1000;

/**
 * Sees to batches that no runner has, until told to stop: those that are cancelled or expire while
 * they wait are ended without a place, and those whose edge died before it queued them are queued.
 */
export async function sweepBatches(context: SweepContext): Promise<void> {
  const { due, stopped, log } = context;
  while (!stopped.aborted) {
    try {
      for (const id of await due.take()) await seeTo(id, context);
    } catch (cause) {
      log('sweep_failed', { cause }); // what was taken is due again in a while
    }
    await sleep(SWEEP_MS, undefined, { signal: stopped }).catch(() => undefined);
  }
}

async function seeTo(id: string, context: SweepContext): Promise<void> {
  const { batches, due, now } = context;
  const batch = await batches.find(id);
  if (batch === null) return due.drop(id);
  const { spec, status, isNotified } = batch;
  if (isBatchEnded(status) && isNotified) return batches.close(spec);
  if (await due.isRunning(id)) return;
  const isOver = isBatchEnded(status) || status === 'cancelling' || now() >= spec.expiresMs;
  if (isOver) await runBatch(id, context);
  else await due.wait(spec);
}
