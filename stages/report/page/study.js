// The charts of a study: the learning curve and the final accuracies of each group, mean with a band.

function learning(groups) {
  const series = groups.map(({ name, curve, runs }) => {
    const points = curve.map(({ examples, mean, deviation }) => {
      const spread = runs.length > 1 ? { "standard deviation": deviation.toFixed(4) } : {};
      const values = { images: examples, "validation loss": mean.toFixed(4), ...spread };
      return { x: examples, y: mean, low: mean - deviation, high: mean + deviation, values };
    });
    return { name, kind: "line", points };
  });
  const x = { label: "training images seen", from: 0 }, y = { label: "validation loss (nats)" };
  return chart({ title: "Loss during training", series, x, y });
}

function accuracies(groups) {
  const series = groups.map(({ name, runs, mean, deviation }, place) => {
    const spread = deviation === null ? {} : { "standard deviation": percent(deviation, 3) };
    const values = { mean: percent(mean, 3), ...spread, seeds: runs.length };
    const middle = { x: place, y: mean, low: mean - deviation, high: mean + deviation, values };
    const each = runs.map((run) => {
      const values = { seed: run.seed, validation: percent(run.validation, 3), test: percent(run.test, 3) };
      return { x: place, y: run.validation, values: { ...values, experiment: run.name } };
    });
    return { name, kind: "spread", points: [middle, ...each] };
  });
  const names = groups.map((group) => group.name), fits = names.every((name) => name.length <= 40 / names.length);
  const text = (place) => (fits ? names[place] : place + 1), label = fits ? "" : "group, as in the table above";
  const x = { label, from: -0.5, to: names.length - 0.5, integer: true, text };
  const y = { label: "validation accuracy", text: (share) => tick(share, 5) };
  return chart({ title: "Final accuracy", series, x, y });
}

document.querySelectorAll(".study").forEach((section, at) => {
  const { groups } = data.studies[at];
  section.querySelector(".charts").append(learning(groups), accuracies(groups));
  // Beyond the seven colours of the style: hues far from each other
  groups.slice(7).forEach((_, more) => section.querySelectorAll(`.s${more + 7}`).forEach((of) => {
    of.style.setProperty("--color", `hsl(${(more * 137) % 360} 60% 50%)`);
  }));
});
