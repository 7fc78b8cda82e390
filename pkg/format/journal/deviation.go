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
	// Saved is as it was before the patch, and what its owner had made of it since
	// has the name Saved: of a rollback.
	Saved Outcome = "saved"
	// MetadataKept is as it was before the patch but for the mode, owner or
	// extended attributes that its owner has given it since: of a rollback.
	MetadataKept Outcome = "metadata-kept"
)

// Deviation is one path that is not as the patches say, since its owner changed
// it: dpkg's manners for conffiles (deb-conffiles(5)).
type Deviation struct {
	// Path, and the names of what was put beside it, are vis(3)-escaped; a name is
	// "" where nothing was.
	Path    string  `json:"path"`
	Outcome Outcome `json:"outcome"`
	// New is the patch's version, Old the one from before the patch that a rollback
	// puts there, Saved what its owner had made of it.
	New   string `json:"new,omitempty"`
	Old   string `json:"old,omitempty"`
	Saved string `json:"saved,omitempty"`
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
	case d.Outcome == StaysDeleted && d.Old != "":
		return "it was deleted on this machine, and stays deleted; the version from before the patch is " + d.Old
	case d.Outcome == StaysDeleted:
		return "it was deleted on this machine, and stays deleted"
	case d.Outcome == KeptRemoved:
		return "it was changed on this machine, and the patch removes it"
	case d.Outcome == Saved:
		return "it was changed on this machine, and is as before the patch again; what it was changed to is " + d.Saved
	case d.Outcome == MetadataKept:
		return "its mode, owner or attributes were changed on this machine, and stay so"
	case d.Old != "":
		return "it was changed on this machine, and stays; the version from before the patch is " + d.Old
	case d.New != "":
		return "it was changed on this machine; the patch's version is " + d.New
	}
	return "it was changed on this machine"
}
