// What the filter of nodes means: every word must be somewhere in the node's name, address, labels, containers or status.

import type { Node } from './api';

export function matches(node: Node, text: string): boolean {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return true;
  const labels = Object.entries(node.labels).map(([key, value]) => `${key}=${value}`);
  const conditions = node.conditions.map((condition) => condition.kind);
  const containers = node.containers.flatMap((container) => [container.name, container.image]);
  const hay = [node.name, node.id, node.ip, node.role, node.status, ...labels, ...conditions, ...containers].join('\n').toLowerCase();
  return words.every((word) => hay.includes(word));
}
