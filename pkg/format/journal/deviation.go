package journal

// Outcome is what became of a path that somebody had changed on the machine.
type Outcome string

// The outcomes.
const (
	// Kept stays as its owner made it. New, where the patch has a version of its
	// own, names that version beside it.
	Kept Outcome = "kept"
	// KeptRemoved stays although the patch removes it.
	KeptRemoved Outcome = "kept-removed"
	// StaysDeleted was deleted by its owner and is not made again.
	StaysDeleted Outcome = "stays-deleted"
)

// Deviation is one path that is not as the patches say, since its owner changed
// it: dpkg's manners for conffiles (deb-conffiles(5)).
type Deviation struct {
	// Path and New are vis(3)-escaped; New is "" where nothing was put beside it.
	Path    string  `json:"path"`
	Outcome Outcome `json:"outcome"`
	New     string  `json:"new,omitempty"`
	// Patch is the id of the patch that met it.
	Patch string `json:"patch,omitempty"`
}

// OfPatch are the deviations that the patch of that id met: a transaction's
// record has also those that stand from before.
func OfPatch(all []Deviation, id string) []Deviation {
	var own []Deviation
	for _, d := range all {
		if d.Patch == id {
			own = append(own, d)
		}
	}
	return own
}

// Why says in words what became of the path.
func (d *Deviation) Why() string {
	switch {
	case d.Outcome == StaysDeleted:
		return "it was deleted on this machine, and stays deleted"
	case d.Outcome == KeptRemoved:
		return "it was changed on this machine, and the patch removes it"
	case d.New != "":
		return "it was changed on this machine; the patch's version is " + d.New
	}
	return "it was changed on this machine"
}
