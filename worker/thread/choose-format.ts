import { parentPort, workerData } from 'node:worker_threads';
import { invariant } from '../../shared/assert.ts';
import { type ChoiceOptions, chooseFormat } from '../model/choose-format.ts';

/** A thread that chooses a weight format, answers and ends: models block the thread they run in. */
invariant(parentPort !== null, 'weight formats are measured in a worker thread');
const options: ChoiceOptions = workerData;
parentPort.postMessage(await chooseFormat(options));
