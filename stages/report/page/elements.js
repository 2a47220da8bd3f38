"use strict";

// What every page needs: its data, elements, and numbers as people read them.

const data = JSON.parse(document.getElementById("data").textContent);

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function percent(share, decimals = 1) {
  return `${(100 * share).toFixed(decimals)}%`;
}

function tick(share, digits = 3) {
  return `${Number((100 * share).toPrecision(digits))}%`;
}

function short(value) {
  return Math.abs(value) >= 1000 ? `${value / 1000}k` : String(Number(value.toPrecision(3)));
}
