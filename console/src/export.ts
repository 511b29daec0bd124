// The picture as a file: colours and fonts, which the page's style sheet gives, are written into the elements, so that any
// program shows it as it is seen here. All of it is saved, wherever one looks.

import type { Picture } from './layout';

const PROPERTIES = ['fill', 'stroke', 'stroke-width', 'stroke-dasharray', 'stroke-linecap', 'stroke-linejoin', 'paint-order', 'opacity', 'font-family', 'font-size', 'font-weight', 'text-anchor'];
const MARGIN = 24;
const PNG_SCALE = 2;
/** Of a side of the PNG: what every browser's canvas takes. */
const PNG_SIDE_MAX = 8192;

export function standalone(svg: SVGSVGElement, picture: Picture): string {
  const copy = svg.cloneNode(true) as SVGSVGElement;
  const seen = [svg, ...svg.querySelectorAll('*')];
  const written = [copy, ...copy.querySelectorAll('*')];
  written.forEach((element, i) => {
    const style = getComputedStyle(seen[i] as Element);
    if (element instanceof SVGElement) {
      for (const name of PROPERTIES) element.setAttribute(name, style.getPropertyValue(name));
      const moved = /translate\(([-\d.]+)px, ?([-\d.]+)px\)/.exec((seen[i] as SVGElement).style.transform);
      if (moved) element.setAttribute('transform', `translate(${moved[1]} ${moved[2]})`);
    }
  });
  for (const element of written) {
    for (const { name } of [...element.attributes]) {
      if (['class', 'style', 'tabindex', 'role'].includes(name) || /^(aria|data)-/.test(name)) element.removeAttribute(name);
    }
  }
  copy.querySelectorAll('circle[r="3.2"]').forEach((dot) => dot.remove());
  copy.querySelector('g')?.removeAttribute('transform');
  const width = picture.width + 2 * MARGIN;
  const height = picture.height + 2 * MARGIN;
  copy.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  copy.setAttribute('width', String(width));
  copy.setAttribute('height', String(height));
  copy.setAttribute('viewBox', `${-MARGIN} ${-MARGIN} ${width} ${height}`);
  const ground = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
  const at = { x: -MARGIN, y: -MARGIN, width, height, fill: getComputedStyle(document.body).backgroundColor };
  for (const [name, value] of Object.entries(at)) ground.setAttribute(name, String(value));
  copy.prepend(ground);
  return new XMLSerializer().serializeToString(copy);
}

export async function save(svg: SVGSVGElement | null, picture: Picture, name: string, kind: 'svg' | 'png'): Promise<void> {
  if (!svg) return;
  const drawn = new Blob([standalone(svg, picture)], { type: 'image/svg+xml' });
  const file = kind === 'svg' ? drawn : await painted(drawn, picture);
  offer(file, `${name.replace(/[^\w.-]+/g, '-') || 'piccolo'}-topology.${kind}`);
}

/** Has the browser save it. */
export function offer(file: Blob, name: string): void {
  const address = URL.createObjectURL(file);
  const anchor = document.createElement('a');
  anchor.href = address;
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

async function painted(drawn: Blob, picture: Picture): Promise<Blob> {
  const address = URL.createObjectURL(drawn);
  try {
    const image = new Image();
    image.src = address;
    await image.decode();
    const side = Math.max(picture.width, picture.height) + 2 * MARGIN;
    const scale = Math.min(PNG_SCALE, PNG_SIDE_MAX / side);
    const canvas = document.createElement('canvas');
    canvas.width = Math.round((picture.width + 2 * MARGIN) * scale);
    canvas.height = Math.round((picture.height + 2 * MARGIN) * scale);
    canvas.getContext('2d')?.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve, reject) =>
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error('no picture'))), 'image/png'),
    );
  } finally {
    URL.revokeObjectURL(address);
  }
}
