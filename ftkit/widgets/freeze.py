"""The freeze panel: choose what may move and how fast, group by group, and see the cost at once (lesson 04)."""

from ipywidgets import HTML, BoundedIntText, Checkbox, Dropdown, GridBox, HBox

from ftkit import forecast
from ftkit.data import Splits
from ftkit.display import count, escape, seconds, size
from ftkit.plan import Plan, Preview
from ftkit.pretrained import Base
from ftkit.widgets.panel import Panel, announced

#: Peak learning rates offered; each is about twice the one before.
RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3)


class FreezePanel(Panel):
    """Choose what may move, the learning rates and the epochs; nothing is trained here.

    Parameters
    ----------
    base : Base
        The pretrained model; it is only read, and measured for under a second.
    data : Splits
        What the plan is for: the number of classes and of rows.
    plan : Plan, optional
        Where the controls start; fields that have no control are kept as they are.

    Attributes
    ----------
    value : Plan
        The plan as chosen now. A cell that uses it later gets what the controls show then.

    Raises
    ------
    FtkitError
        FT051, if the plan names a group that the model has not; FT056, if it gives a frozen one a learning rate.
    """

    css_class = "ftkit-freeze"

    def __init__(self, base: Base, data: Splits, plan: Plan | None = None) -> None:
        super().__init__(data.name)
        self.base, self.data = base, data
        self._start = start = plan or Plan(train="top 1")
        groups = [*base.groups, "head"]
        self._tensors, moves = start.tensors, start.resolve(groups)

        words, asked = self._offer(sum(g.startswith("block ") for g in groups))
        decays = sorted({1.0, 0.95, 0.9, 0.8, 0.65, 0.5, start.layer_decay}, reverse=True)
        decays = [("1 (one rate for all)" if d == 1 else f"{d:g}", d) for d in decays]
        rates, most = _rates(*RATES, start.lr), max(50, start.epochs)
        self.depth = self.control(Dropdown, "What may move", self._follow_list, options=words, value=asked)
        self.rate = self.control(Dropdown, "Learning rate", self._show, options=rates, value=start.lr)
        self.epochs = self.control(BoundedIntText, "Epochs", self._show, value=start.epochs, min=1, max=most)
        self.decay = self.control(Dropdown, "Layer decay", self._show, options=decays, value=start.layer_decay)
        self.gradual = self.control(Checkbox, "Gradual unfreezing", self._show, value=start.gradual, indent=False)
        self.may_move, self.rates = {}, {}
        for g in groups:
            usual, offered = (start.head_lr, (*RATES, 2e-3, 5e-3, 1e-2)) if g == "head" else (0.0, (0.0, *RATES))
            rate = start.rates.get(g, usual)
            ticked, offered = g in moves, _rates(*offered, rate)
            self.may_move[g] = self.control(Checkbox, f"{g} may move", self._follow_boxes, value=ticked, indent=False)
            self.rates[g] = self.control(Dropdown, f"Rate of {g}", self._show, options=offered, value=rate)
        self._fields = {"lr": self.rate, "layer_decay": self.decay, "gradual": self.gradual, "epochs": self.epochs}
        self._weights, self._states = ({g: HTML() for g in groups} for _ in range(2))

        row = HBox([self.depth, self.rate, self.epochs, self.decay, self.gradual]).add_class("controls")
        cells = [HTML(f'<span class="head">{words}</span>') for words in ("Group", "Weights", "Own rate", "State")]
        for g in reversed(groups):
            cells += [self.may_move[g], self._weights[g], self.rates[g].add_class("rate"), self._states[g]]
        caption = HTML("<p>The model as a stack: texts enter at the bottom, answers leave at the top.</p>")
        # An arrow key on a closed list does not change it: JupyterLab takes the key, and goes to the next cell.
        keys = "By keyboard: Tab goes to a control, Space opens its list, arrows and Enter choose."
        hint = HTML(f"<p><small>{keys}</small></p>")
        stack = GridBox(cells).add_class("stack")
        self.box.children = (row, self.status, caption, stack, self.shown_code, hint, self.style)
        self._show()

    @property
    def value(self) -> Plan:
        """The plan as the controls stand."""
        ticked, meant = self._ticked(), self._meant.get(self.depth.value)
        rates = {g: self.rates[g].value for g in ticked if g != "head" and self.rates[g].value}
        shown = {name: control.value for name, control in self._fields.items()} | {"head_lr": self.rates["head"].value}
        return self._start.but(train=meant.train if meant else ticked, tensors=self._tensors, rates=rates, **shown)

    @property
    def code(self) -> str:
        """The plan as a call."""
        return f"ft.{self.value.code()}"

    @property
    def preview(self) -> Preview:
        """What the plan means for this model, group by group."""
        return self.value.preview(self.base, len(self.data.label_names))

    static = preview

    @property
    def estimate(self) -> forecast.Estimate:
        """The first estimate of the plan's cost on this machine."""
        return forecast.estimate(self.base, self.data, self.value, calibrate=False)

    def _offer(self, n: int) -> tuple[list[tuple[str, str]], str]:
        """Note what each key of the list means, out of `n` blocks; return the list, and the key to start at."""
        words = {"head": "the head only"} | {f"top {k}": f"the head and the top {k} of {n} blocks" for k in range(1, n)}
        words |= {"blocks": f"the head and all {n} blocks", "all": "everything, embeddings too"}
        self._meant = {key: Plan(train=key) for key in words}
        self._meant |= {part: Plan(train="all", tensors=part) for part in ("bias", "norm")}
        words |= {"bias": "bias vectors only", "norm": "norm layers only", "own": "my own choice"}
        given = Plan(train=self._start.train, tensors=self._start.tensors)
        asked = next((key for key, plan in self._meant.items() if plan == given), "given")
        if asked == "given":
            words["given"], self._meant["given"] = f"as given: {given.words}", given
        return [(told, key) for key, told in words.items()], asked

    def _ticked(self) -> tuple[str, ...]:
        return tuple(g for g, box in self.may_move.items() if box.value)

    def _follow_list(self) -> None:
        """Tick the boxes of what the list says; one's own choice begins with what was chosen last."""
        if meant := self._meant.get(self.depth.value):
            self._tensors, moves = meant.tensors, meant.resolve(list(self.may_move))
            for g, box in self.may_move.items():
                box.value = g in moves
        self._show()

    def _follow_boxes(self) -> None:
        """Let the list say what the boxes mean."""
        if not self._ticked():  # something has to move
            self.may_move["head"].value = True
        groups, wanted = list(self.may_move), (self._tensors, self._ticked())
        found = (key for key, plan in self._meant.items() if (plan.tensors, plan.resolve(groups)) == wanted)
        self.depth.value = next(found, "own")
        self._show()

    def _show(self) -> None:
        """Bring what is shown up to date; what did not change is not sent to the page again."""
        plan, preview, cost = self.value, self.preview, self.estimate
        share = 100 * preview.n_trained / preview.n_total
        told = f"<b>{count(preview.n_trained)}</b> of {count(preview.n_total)} weights may move ({share:.3g} %). "
        needs = f"<b>{seconds(cost.train_s)}</b> and {size(cost.peak_bytes)} of memory on this machine"
        told += f"About {needs}, give or take a third."
        if stuck := plan.start == "zero" and "head" not in preview.trained:
            told += " <b>As it stands, nothing can be learned: a frozen head of zeros always answers alike (FT054).</b>"
        self.status.value = announced(told)
        # In which epoch each first moves.
        joins = {g: epoch for epoch in range(plan.epochs, 0, -1) for g in plan.stage(list(preview.sizes), epoch)}
        for g, n in preview.sizes.items():
            moving = preview.moving[g]
            self._weights[g].value = _bar(n, moving, max(preview.sizes.values()))
            joined = f", from epoch {joins[g]}" if moving and joins[g] > 1 else ""
            self._states[g].value = f"<b>moves</b> at {preview.rates[g]:.3g}{joined}" if moving else "frozen"
            self.rates[g].disabled = not moving
        # The head is new: it has to move, unless it starts from a probe.
        self.may_move["head"].disabled = plan.start == "zero" and not stuck
        self.show_code()
        self.tell_listeners()


def _rates(*offered: float) -> list[tuple[str, float]]:
    """Return learning rates to choose from, in words too; 0 stands for the one that holds for all."""
    return [(f"{r:g}" if r else "as above", r) for r in sorted({*offered})]


def _bar(n: int, n_moving: int, largest: int) -> str:
    """Return a group's weights: a bar as long as their number, patterned as far as they may move, and the number."""
    width = max(1.0, 100 * n / largest)
    part = f'<span style="width:{100 * n_moving / n:.4g}%;min-width:3px"></span>' if n_moving else ""
    told = count(n) if n_moving in (0, n) else f"{count(n_moving)} of {count(n)}"
    bar = f'<span class="all" aria-hidden="true" style="width:{width:.1f}%">{part}</span>'
    return f'<div class="weights"><span>{bar}</span><span>{escape(told)}</span></div>'
