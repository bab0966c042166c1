import type { ModelCard } from '../../shared/protocol/model-card.ts';
import type { ModelCatalog } from '../catalog.ts';

/** A model that is no longer served, or served by others, is noticed within this time. */
const KEPT_MS = 1000;

interface Kept {
  readonly card: ModelCard;
  readonly untilMs: number;
}

/** The same catalog for lines that come by the hundred a second: it is asked once in a while. */
export function keepCards(catalog: ModelCatalog, now: () => number): ModelCatalog {
  const keptByName = new Map<string, Kept>();
  return {
    async find(transport, name) {
      const kept = keptByName.get(name);
      if (kept !== undefined && now() < kept.untilMs) return kept.card;
      keptByName.delete(name);
      const card = await catalog.find(transport, name);
      keptByName.set(name, { card, untilMs: now() + KEPT_MS });
      return card;
    },
    textTools: (transport, card) => catalog.textTools(transport, card),
  };
}
