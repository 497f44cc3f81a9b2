package main

import (
	"math"
	"strings"
)

// A tree is a group with a group of two jobs in it, and with a job that counts twice. See GROUPS and
// LEAVES in ../history.py.
var (
	names   = [...]string{"", "/s", "/s/a", "/s/b", "/x"}
	parents = [...]int{none, 0, 1, 1, 0}
	weights = [...]int{1000, 1000, 1000, 1000, 2000} // thousandths
)

const (
	none  = -1
	whole = 10_000 // what a child has gained at its end: hundredths of a percent
)

// Tree is the state of all jobs of a tree, each at its place.
type Tree [len(names)]Model

func placeOf(name string) int {
	for place, known := range names {
		if name == known {
			return place
		}
	}
	panic("no job of a tree: " + strings.TrimPrefix(name, "/"))
}

// Contribution is what a child adds to its group; none before its first event.
type Contribution struct {
	known   bool
	attempt int
	status  string
	gained  int
}

func contributionOf(state State) Contribution {
	if state.Seq == 0 {
		return Contribution{}
	}
	gained := int(math.Round(state.Percent * 100))
	if final(state.Status) {
		gained = whole
	}
	return Contribution{true, state.Attempt, state.Status, gained}
}

// figures is the state of a group with what its children decide: the sum of their newest
// contributions.
func (tree *Tree) figures(group int, state State) State {
	due := int(math.Round(state.Children[0] * 1000))
	running, succeeded, failed, weight, gained, ended := 0, 0, 0, 0, 0, 0
	for place, parent := range parents {
		one := contributionOf(tree[place].State)
		if parent != group || !one.known {
			continue
		}
		weight += weights[place]
		gained += weights[place] * one.gained
		switch one.status {
		case "succeeded":
			succeeded++
		case "failed":
			failed++
		default:
			running++
		}
		if final(one.status) {
			ended += weights[place]
		}
	}
	state.Children = [...]float64{
		state.Children[0], 0, float64(running), float64(succeeded), float64(failed), 0,
	}
	if !final(state.Status) && ended >= due && running == 0 {
		state.Status = "succeeded"
		if failed > 0 {
			state.Status = "failed"
		}
	}
	if state.Status == "succeeded" {
		state.Percent = 100
	} else {
		tenths := gained / (max(due, weight) * 10)
		state.Percent = max(state.Percent, float64(tenths)/10)
	}
	return state
}

// declare is the state of a group after it was told how much it expects, and why there is no event.
func (tree *Tree) declare(group int, expected float64) (State, string) {
	old := tree[group].State
	if final(old.Status) {
		return old, "final"
	}
	next := old
	if next.Seq == 0 {
		next.Attempt, next.Status = 1, "running"
	}
	next.Children[0] = expected
	next = tree.figures(group, next)
	if next == old {
		return old, "unchanged"
	}
	next.Seq++
	return next, ""
}

// contribute changes the groups above a job, whose contribution was before.
func (tree *Tree) contribute(place int, before Contribution) {
	for parents[place] != none {
		now := contributionOf(tree[place].State)
		group := &tree[parents[place]]
		if before == now || group.Seq == 0 {
			return
		}
		above, state := contributionOf(group.State), group.State
		if final(state.Status) {
			if !before.known || before.attempt == now.attempt {
				return
			}
			state = State{
				Epoch: state.Epoch, Seq: state.Seq, Attempt: state.Attempt + 1, Status: "running",
				Children: state.Children,
			}
		}
		state = tree.figures(parents[place], state)
		if state == group.State {
			return
		}
		state.Seq++
		group.State = state
		group.Unknown++
		place, before = parents[place], above
	}
}

func stepTree(state, input, output any) (bool, any) {
	tree, op := state.(Tree), input.(Op)
	model := &tree[op.place]
	ok := false
	if op.Update == nil {
		ok, *model = read(*model, op)
		return ok, tree
	}
	before := contributionOf(model.State)
	var next State
	var reason string
	if op.Update.Children > 0 {
		next, reason = tree.declare(op.place, op.Update.Children)
	} else {
		next, reason = reduce(model.State, *op.Update)
	}
	ok, *model = answered(*model, next, reason, op)
	if ok {
		tree.contribute(op.place, before)
	}
	return ok, tree
}
