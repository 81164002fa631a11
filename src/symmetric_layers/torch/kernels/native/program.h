// What has to be folded, multiplied and added: worked out once per call, for a box of pixels. `slots.h` says which taps do
// what, `boxes.h` where everything lies.

#pragma once
#include "keeping.h"
#include "task.h"

namespace {

enum { FEW = 4 };       // inputs that are so few that code of its own is worth it
enum { BRIEF = 32, BRIEF_TAP = 64 };  // inputs of lifting layers, and of deep ones of one tap
enum { LIGHT = 4096 };  // weights that stay in the first cache

// Places in the input whose sums and differences become planes.
struct Fold {
    int count;      // of places: 2, 4 or 8; or 1 that is copied
    int character;  // the one result that is wanted, or -1 for all
    int64_t from[MEMBERS], to[MEMBERS];
};

// One tap: where it reads, a plane or (direct) the input itself.
struct Slot {
    bool direct;
    int64_t offset;
    int64_t row;  // of the input, for the first row of the output; where rows are not folded
};

// What a pixel has of slots that stand side by side, or a piece of it.
struct Span {
    bool direct;
    int64_t offset, row;    // as the slot has it
    int64_t first, floats;  // before it, in all slots; and how many
};

// The taps of the stored filters that become the weights of some slots.
struct Recipe {
    int count;  // 0: none, another tap's recipe has them
    int member[MEMBERS], tap[MEMBERS], slot[MEMBERS];  // a tap that is not stored is -1: a zero
};

// Which mirrors move a tap: those of pictures fold the taps they move, those of orbits exchange channels, too.
struct Class {
    int64_t tap[3];  // the first of the taps that are folded together
    int count, mirror[MEMBERS];
    int sort;        // which letters but that of a row move it
    bool root;       // the first along the axes that are not folded
};

struct Program {
    Task task;
    Keeping keeping;            // of answers
    const int32_t *in_order, *out_order;
    int bits, members, groups;  // of a kind: letters, mirrors, characters of the outputs
    int in_members, out_members;
    int axis[3];                // that a letter mirrors
    bool folded[3], deep, in_laced, out_laced;
    bool spaced;                // answers are written a few places apart
    bool alike;                 // members have the same channels: they are other places of the same pictures
    bool apart;                 // members are written to places of their own
    int exchanged[MEMBERS];     // bits by which the numbers of a member's channels differ from 0, 1, 2, ...; -1 where they
                                // differ otherwise
    bool own[3];                // planes stand at the positions of the answer, and not at those of the input
    bool close;                 // what a position has of all planes stands side by side, not plane by plane
    bool late;                  // planes are folded right before they are multiplied,
    int64_t folded_late;        // so many pixels at a time
    int64_t stretch;            // pixels whose sums are stored together
    int64_t taps, stored_taps, blocks;  // of the kernel; of those, stored ones; of WIDTH outputs
    int64_t box[3], boxes[3], pictures, tiles;
    int64_t region[3], region_pitch[3], member_pitch;  // what a box reads
    int64_t plane[3], plane_pitch[3], plane_floats, planes;
    int64_t plane_room;         // all planes of a picture
    Class *classes;
    Fold *folds;
    Slot *slots;
    Span *spans;
    Recipe *recipes;
    bool stem;                  // done by `stems.h`, where pixels are not in the lanes
    int last_share;             // inputs that share the lanes of the last block, where representatives leave them empty
    int class_count, fold_count, slot_count, span_count;
    int start[MEMBERS + 1], span_start[MEMBERS + 1];  // slots, and spans, of a group stand side by side

    int64_t box_pixels() const { return box[0] * box[1] * box[2]; }
    int64_t tile_pixels() const { return pictures * box_pixels(); }
    int64_t region_floats() const { return in_members * member_pitch; }
    // Of the scratch, for a pixel of a tile of so many inputs; of what is folded late only what it is folded from, and as
    // much again. `gradients`: of a pixel, for every character.
    int64_t pixel_floats(int64_t inputs, int64_t gradients) const {
        if (late) return 2 * in_members * inputs;
        return (planes + in_members) * inputs + (stem ? 0 : groups * (WIDTH + gradients));
    }
    int64_t group_pitch() const { return (stretch + ROWS) * WIDTH; }  // of sums
    bool is_narrow(int64_t block) const { return task.outputs - block * WIDTH <= LANES; }
    int share(int64_t block) const { return block == blocks - 1 ? last_share : 1; }
    int64_t packed_floats() const { return blocks * slot_count * task.inputs * WIDTH; }
};

}  // namespace
