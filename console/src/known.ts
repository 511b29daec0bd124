// The nodes as a watch tells them: a snapshot replaces what was known in one step, so that nothing flickers.

import type { Node, NodeChange } from './api';

export class KnownNodes {
  nodes: ReadonlyMap<string, Node> = new Map();
  private snapshot: Map<string, Node> | null = null;

  get isWithinSnapshot(): boolean {
    return this.snapshot !== null;
  }

  apply(changes: NodeChange[]): void {
    let next: Map<string, Node> | null = null;
    for (const change of changes) {
      if (change.type === 'snapshot_begin') {
        this.snapshot = new Map();
      } else if (change.type === 'snapshot_end') {
        next = this.snapshot ?? next;
        this.snapshot = null;
      } else {
        const into: Map<string, Node> = this.snapshot ?? (next ??= new Map(this.nodes));
        if (change.type === 'changed') into.set(change.node.id, change.node);
        else into.delete(change.node_id);
      }
    }
    if (next) this.nodes = next;
  }
}
