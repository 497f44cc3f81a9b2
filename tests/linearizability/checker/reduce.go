package main

// Update is the part of an update that the publishers use.
type Update struct {
	Attempt int     `json:"attempt"`
	Status  string  `json:"status"`
	Done    float64 `json:"done"`
	Total   float64 `json:"total"`
	Message string  `json:"message"`
	// Of a group, and only then: the weight that it expects.
	Children float64 `json:"children"`
}

// State is a position and the part of a state that those updates change.
type State struct {
	Epoch   int64   `json:"epoch"`
	Seq     int64   `json:"seq"`
	Attempt int     `json:"attempt"`
	Status  string  `json:"status"`
	Done    float64 `json:"done"`
	Percent float64 `json:"percent"`
	Message string  `json:"message"`
	// Of a group: expected, queued, running, succeeded, failed, cancelled.
	Children [6]float64 `json:"children"`
}

// Answer is what a publisher is told.
type Answer struct {
	Epoch   int64  `json:"epoch"`
	Seq     int64  `json:"seq"`
	Attempt int    `json:"attempt"`
	Reason  string `json:"reason"`
}

// Op has an Update or is a read; its outcome is an Answer, a Read, or unknown (neither).
type Op struct {
	Job    string  `json:"job"`
	Client int     `json:"client"`
	Call   int64   `json:"call"`
	Return int64   `json:"return"`
	Update *Update `json:"update"`
	Answer *Answer `json:"answer"`
	Read   *State  `json:"read"`
	// How often Redis had been killed before it returned.
	Restarts int `json:"restarts"`
	// Where in its tree the job is.
	place int
}

func final(status string) bool { return status == "succeeded" || status == "failed" }

func reduce(old State, update Update) (State, string) {
	next := old
	switch {
	case update.Attempt > old.Attempt || old.Seq == 0:
		next = State{Epoch: old.Epoch, Seq: old.Seq, Attempt: update.Attempt, Status: "running"}
	case update.Attempt < old.Attempt:
		return old, "stale_attempt"
	case final(old.Status):
		return old, "final"
	}
	if final(update.Status) {
		next.Status = update.Status
	}
	next.Done = max(next.Done, update.Done)
	next.Percent = max(next.Percent, 100*next.Done/update.Total)
	if next.Status == "succeeded" {
		next.Percent = 100
	}
	next.Message = update.Message
	if next == old {
		return old, "unchanged"
	}
	next.Seq++
	return next, ""
}

// Model is a job's state, and what the positions of a new generation depend on.
type Model struct {
	State
	Generations int   // how often the epoch has changed; twice for each restart of Redis at most
	Unknown     int64 // events since the last position that is known
}

// see takes the position of an outcome into the model, if it may be the position of the state. In
// a new generation (lua/failover.lua) the epoch rises and seq begins again, for what came in it.
func see(model Model, epoch, seq int64, restarts int) (bool, Model) {
	switch {
	case seq == model.Seq && (model.Epoch == 0 || epoch == model.Epoch):
		model.Epoch = epoch
	case epoch > model.Epoch && model.Generations < 2*restarts && seq >= 1 && seq <= model.Unknown+1:
		model.Epoch, model.Seq = epoch, seq
		model.Generations++
	default:
		return false, model
	}
	model.Unknown = 0
	return true, model
}

func step(state, input, output any) (bool, any) {
	model, op := state.(Model), input.(Op)
	if op.Update == nil {
		return read(model, op)
	}
	next, reason := reduce(model.State, *op.Update)
	return answered(model, next, reason, op)
}

// read says whether a read can have found the state of the model.
func read(model Model, op Op) (bool, Model) {
	if op.Read.Seq == 0 {
		return model.Seq == 0, model
	}
	ok, model := see(model, op.Read.Epoch, op.Read.Seq, op.Restarts)
	return ok && model.State == *op.Read, model
}

// answered says whether an update can have had its answer, if it leads to the state next.
func answered(model Model, next State, reason string, op Op) (bool, Model) {
	model.State = next
	if reason == "" {
		model.Unknown++
	}
	if op.Answer == nil {
		return true, model
	}
	ok, model := see(model, op.Answer.Epoch, op.Answer.Seq, op.Restarts)
	return ok && op.Answer.Attempt == next.Attempt && op.Answer.Reason == reason, model
}
