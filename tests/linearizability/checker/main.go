// The checker reads a history on stdin, one operation a line (JSON), and asks porcupine whether
// the operations of each job are those of the fold (gateway/model/reducer.py), one at a time.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

// Update is the part of an update that the publishers use.
type Update struct {
	Attempt int     `json:"attempt"`
	Status  string  `json:"status"`
	Done    float64 `json:"done"`
	Total   float64 `json:"total"`
	Message string  `json:"message"`
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
}

func final(status string) bool { return status == "succeeded" || status == "failed" }

func fold(old State, update Update) (State, string) {
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
	Generations int   // how often the epoch has changed; once for each restart of Redis at most
	Unknown     int64 // updates of unknown outcome since the last outcome that is known
}

// see takes the position of an outcome into the model, if it may be the position of the state. In
// a new generation (lua/failover.lua) the epoch rises and seq begins again, for what came in it.
func see(model Model, epoch, seq int64, restarts int) (bool, Model) {
	switch {
	case model.Epoch == 0 && seq == model.Seq:
		model.Epoch = epoch
	case epoch == model.Epoch && seq == model.Seq:
	case epoch > model.Epoch && model.Epoch > 0 && model.Generations < restarts &&
		seq >= 1 && seq <= model.Unknown+1:
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
		if op.Read.Seq == 0 {
			return model.Seq == 0, model
		}
		ok, model := see(model, op.Read.Epoch, op.Read.Seq, op.Restarts)
		return ok && model.State == *op.Read, model
	}
	next, reason := fold(model.State, *op.Update)
	model.State = next
	if op.Answer == nil {
		if reason == "" {
			model.Unknown++
		}
		return true, model
	}
	ok, model := see(model, op.Answer.Epoch, op.Answer.Seq, op.Restarts)
	return ok && op.Answer.Attempt == next.Attempt && op.Answer.Reason == reason, model
}

func main() {
	jobs := map[string][]porcupine.Operation{}
	scanner := bufio.NewScanner(os.Stdin)
	scanner.Buffer(nil, 1<<20)
	count := 0
	for scanner.Scan() {
		var op Op
		if err := json.Unmarshal(scanner.Bytes(), &op); err != nil {
			fmt.Println(err)
			os.Exit(2)
		}
		jobs[op.Job] = append(jobs[op.Job], porcupine.Operation{
			ClientId: op.Client, Input: op, Call: op.Call, Return: op.Return,
		})
		count++
	}
	model := porcupine.Model{Init: func() any { return Model{} }, Step: step}
	names := make([]string, 0, len(jobs))
	for name := range jobs {
		names = append(names, name)
	}
	sort.Strings(names)
	code := 0
	for _, name := range names {
		result := porcupine.CheckOperationsTimeout(model, jobs[name], 30*time.Second)
		if result != porcupine.Ok {
			fmt.Println(name, result)
			code = 1
		}
	}
	fmt.Printf("%d operations on %d jobs\n", count, len(jobs))
	os.Exit(code)
}
