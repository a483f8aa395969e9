// Returns the faults that a reader would notice on the page, as a list of sentences.
(() => {
  const found = [];
  const root = document.documentElement;
  document.querySelectorAll("details").forEach((details) => { details.open = true; });
  if (root.scrollWidth > root.clientWidth) {
    found.push(`the page is ${root.scrollWidth} wide in a window of ${root.clientWidth}`);
  }
  const figures = document.querySelectorAll("figure svg");
  for (const svg of figures) {
    const name = svg.closest("figure").id;
    const box = svg.getBoundingClientRect();
    if (box.width < 100 || box.height < 100 || !svg.checkVisibility()) {
      found.push(`${name} is ${box.width} by ${box.height}`);
    }
    const labels = (svg.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id));
    if (svg.getAttribute("role") !== "img" || labels.length < 2 || labels.some((label) => !label?.textContent)) {
      found.push(`${name} has no alternative in words`);
    }
    const texts = [...svg.querySelectorAll("text")].map((text) => [text.textContent.trim(), text.getBoundingClientRect()]);
    texts.forEach(([text, a], index) => {
      if (a.left < box.left - 1 || a.right > box.right + 1 || a.top < box.top - 1 || a.bottom > box.bottom + 1) {
        found.push(`${name}: ${text} is cut off`);
      }
      for (const [other, b] of texts.slice(index + 1)) {
        // The boxes of lines are taller than their letters.
        const [x, y] = [Math.min(a.right, b.right) - Math.max(a.left, b.left), Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top)];
        if (x > 1 && y > 4) {
          found.push(`${name}: ${text} and ${other} overlap`);
        }
      }
    });
  }
  const colours = getComputedStyle(document.body);
  return { found, figures: figures.length, page: colours.backgroundColor, text: colours.color };
})()
