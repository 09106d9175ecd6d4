// SPDX-License-Identifier: Apache-2.0
// What a reader of the page sees, as one value: evaluated in the page by test_pages.py.
(() => {
  const box = (element) => {
    const { left, top, right, bottom } = element.getBoundingClientRect();
    return { left, top, right, bottom };
  };
  const luminance = (colour) => {
    const [red, green, blue] = colour.match(/[\d.]+/g).slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const paper = getComputedStyle(document.body).backgroundColor;
  // As WCAG 2.1 defines it: 21 for black on white.
  const contrast = (colour) => {
    const [low, high] = [luminance(colour), luminance(paper)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const drawn = (mark) => {
    const { fill, stroke } = getComputedStyle(mark);
    return { ...box(mark), kind: mark.tagName, contrast: contrast(fill === "none" ? stroke : fill) };
  };
  const words = (element, colour) => ({
    ...box(element),
    text: element.textContent,
    contrast: contrast(getComputedStyle(element)[colour]),
  });
  const isGrid = (mark) =>
    mark.classList.contains("axis") || mark.getAttribute("stroke-opacity") !== null;
  return {
    paper: luminance(paper),
    overflow: document.documentElement.scrollWidth - window.innerWidth,
    cells: [...document.querySelectorAll("tr")].map((row) =>
      [...row.cells].map((cell) => cell.innerText)),
    text: [...document.querySelectorAll("h1, h2, p, td, th")].map((e) => words(e, "color")),
    plots: [...document.querySelectorAll("svg")].map((svg) => ({
      ...box(svg),
      labels: [...svg.querySelectorAll("text")].map((e) => words(e, "fill")),
      marks: [...svg.querySelectorAll("rect, path, circle")].filter((m) => !isGrid(m)).map(drawn),
    })),
  };
})()
