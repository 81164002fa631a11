// What has to be folded, multiplied and added: worked out once per call, for a box of pixels.

#pragma once
#include "keeping.h"
#include "task.h"

namespace {

enum { FEW = 4 };       // inputs that are so few that code of its own is worth it
enum { BRIEF = 32, BRIEF_TAP = 64 };  // inputs of lifting layers, and of deep ones of one tap
enum { LIGHT = 4096 };  // weights that stay in the first cache

// Places in the input whose sums and differences become planes.
struct Fold {
    int count;      // of places: 2, 4 or 8
    int character;  // the one result that is wanted, or -1 for all
    int64_t from[MEMBERS], to[MEMBERS];
};

// One tap: where it reads, a plane or (direct) the input itself.
struct Slot {
    bool direct;
    int64_t offset;
    int64_t row;  // of the input, for the first row of the output; where rows are not folded
};

// The taps of the stored filters that become the weights of some slots.
struct Recipe {
    int count;  // 0: none, another tap's recipe has them
    int member[MEMBERS], tap[MEMBERS], slot[MEMBERS];
};

struct Program {
    Task task;
    Keeping keeping;            // of answers
    const int32_t *in_order, *out_order;
    int bits, members, groups;  // of a kind: letters, mirrors, characters of the outputs
    int in_members, out_members;
    int axis[3];                // that a letter mirrors
    bool folded[3], deep, in_laced, out_laced;
    int64_t taps, blocks;       // of the kernel; of WIDTH outputs
    int64_t box[3], boxes[3], pictures, tiles;
    int64_t region[3], region_pitch[3], member_pitch;  // what a box reads
    int64_t plane[3], plane_pitch[3], plane_floats, planes;
    Fold *folds;
    Slot *slots;
    Recipe *recipes;
    bool stem;                  // done by `stems.h`, where pixels are not in the lanes
    bool pairs;                 // where representatives leave half of a block empty, inputs may be paired there
    int fold_count, slot_count, start[MEMBERS + 1];  // slots of a group stand side by side

    int64_t box_pixels() const { return box[0] * box[1] * box[2]; }
    int64_t tile_pixels() const { return pictures * box_pixels(); }
    int64_t region_floats() const { return in_members * member_pitch; }
    // Of the scratch, for a pixel of a tile of so many inputs. `gradients`: of a pixel, for every character.
    int64_t pixel_floats(int64_t inputs, int64_t gradients) const {
        return (planes + in_members) * inputs + (stem ? 0 : groups * (WIDTH + gradients));
    }
    // One vector of representatives: two inputs side by side, whose products are summed apart, make two of it.
    bool is_narrow(int64_t block) const { return task.outputs - block * WIDTH <= LANES; }
    bool is_paired(int64_t block) const { return pairs && is_narrow(block) && task.inputs % 2 == 0; }
    int64_t packed_floats() const { return blocks * slot_count * task.inputs * WIDTH; }
};

inline int64_t tap_at(const Program &p, const int64_t *q) {
    return (q[0] * p.task.kernel[1] + q[1]) * p.task.kernel[2] + q[2];
}

// The place in the kernel where a mirror sees a tap.
inline void reflect(const Program &p, int mirror, const int64_t *q, int64_t *to) {
    for (int a = 0; a < 3; a++) to[a] = q[a];
    for (int b = 0; b < p.bits; b++)
        if (mirror >> b & 1) to[p.axis[b]] = p.task.kernel[p.axis[b]] - 1 - q[p.axis[b]];
}

inline int64_t region_offset(const Program &p, const int64_t *q) {
    int64_t offset = 0;
    for (int a = 0; a < 3; a++) offset += q[a] * p.task.dilation[a] * p.region_pitch[a];
    return offset;
}

// Planes stand at output positions along folded axes; along the others they hold all that is read, and taps move.
inline int64_t plane_offset(const Program &p, const int64_t *q) {
    int64_t offset = 0;
    for (int a = 0; a < 3; a++)
        if (!p.folded[a]) offset += q[a] * p.task.dilation[a] * p.plane_pitch[a];
    return offset;
}

// Which mirrors move a tap: those of pictures fold the taps they move, those of orbits exchange channels, too.
struct Class {
    int count, mirror[MEMBERS];
    bool first;  // of the taps that are folded together
    bool root;   // the first along the axes that are not folded
};

inline Class class_of(const Program &p, const int64_t *q) {
    Class found = {0, {}, true, true};
    int moving = 0;
    for (int b = 0; b < p.bits; b++) {
        int64_t here = q[p.axis[b]], there = p.task.kernel[p.axis[b]] - 1 - here;
        if (there != here) moving |= 1 << b;
        if (there < here && !p.deep) found.first = false;
    }
    for (int a = 0; a < 3; a++)
        if (!p.folded[a] && q[a]) found.root = false;
    for (int g = 0; g < p.members; g++)
        if (p.deep || !(g & ~moving)) found.mirror[found.count++] = g;
    return found;
}

// Calls `visit(q, class)` for the first tap of every class.
template <class Visit> inline void for_each_class(const Program &p, Visit visit) {
    int64_t q[3];
    for (q[0] = 0; q[0] < p.task.kernel[0]; q[0]++)
        for (q[1] = 0; q[1] < p.task.kernel[1]; q[1]++)
            for (q[2] = 0; q[2] < p.task.kernel[2]; q[2]++) {
                Class found = class_of(p, q);
                if (found.first) visit(q, found);
            }
}

inline void add_fold(Program &p, const int64_t *q, const Class &c, int wanted) {
    Fold &fold = p.folds[p.fold_count++];
    fold.count = c.count;
    fold.character = wanted;
    for (int i = 0; i < c.count; i++) {
        int64_t at[3];
        reflect(p, c.mirror[i], q, at);
        int member = p.deep ? c.mirror[i] : wanted < 0 ? 0 : c.mirror[wanted];
        fold.from[i] = member * p.member_pitch + region_offset(p, at);
    }
    for (int i = 0; i < (wanted < 0 ? c.count : 1); i++) fold.to[i] = p.planes++ * p.plane_floats;
}

// Every class of taps makes a plane per character, shared by the taps that are only moved.
inline void plan_folds(Program &p, int64_t *made) {
    p.planes = p.fold_count = 0;
    for_each_class(p, [&](const int64_t *q, const Class &c) {
        if (!c.root || c.count == 1) return;
        made[tap_at(p, q)] = p.planes * p.plane_floats;
        if (p.task.mode < 2) return add_fold(p, q, c, -1);
        for (int i = 0; i < c.count; i++) add_fold(p, q, c, i);
    });
}

inline void add_slot(Program &p, const int64_t *q, const Class &c, int i, const int64_t *made) {
    int64_t root[3];
    for (int a = 0; a < 3; a++) root[a] = p.folded[a] ? q[a] : 0;
    Slot &slot = p.slots[p.slot_count];
    slot.direct = c.count == 1;
    slot.row = q[1] * p.task.dilation[1] - p.task.padding[1];
    slot.offset = slot.direct ? region_offset(p, q) : made[tap_at(p, root)] + i * p.plane_floats + plane_offset(p, q);
    p.recipes[tap_at(p, q)].slot[i] = p.slot_count++;
}

// Which letters but that of a row move a class of taps.
inline int sort_of(const Program &p, const Class &c) {
    int moving = 0;
    for (int i = 0; i < c.count; i++) moving |= c.mirror[i];
    return moving >> p.folded[2];
}

// In the order in which `across.h` sums them, sort after sort.
inline void plan_slots(Program &p, const int64_t *made) {
    p.slot_count = 0;
    for (int group = 0; group < p.groups; group++) {
        p.start[group] = p.slot_count;
        for (int sort = 0; sort < MEMBERS / 2; sort++)
            for_each_class(p, [&](const int64_t *q, const Class &c) {
                for (int i = 0; i < c.count; i++)
                    if (sort_of(p, c) == sort && (p.groups == 1 || c.mirror[i] == group)) add_slot(p, q, c, i, made);
            });
    }
    p.start[p.groups] = p.slot_count;
}

// The weight of a character is the same butterfly, of the stored taps. Gradients of the input read taps backwards; in
// orbits a transposed filter's mirror is already in its exchanged channels, and its taps stay where they are.
inline void plan_recipes(Program &p) {
    for_each_class(p, [&](const int64_t *q, const Class &c) {
        Recipe &recipe = p.recipes[tap_at(p, q)];
        recipe.count = c.count;
        for (int i = 0; i < c.count; i++) {
            int64_t at[3];
            reflect(p, p.deep && p.task.transposed ? 0 : c.mirror[i], q, at);
            if (p.task.transposed)
                for (int a = 0; a < 3; a++) at[a] = p.task.kernel[a] - 1 - at[a];
            recipe.member[i] = p.deep ? c.mirror[i] : 0;
            recipe.tap[i] = (int)tap_at(p, at);
        }
    });
}

// Pixels of a tile: fewer would not be worth loading the weights, or their gradients, which are stored as well.
enum { FEWEST = 4 * ROWS, ENOUGH = 64 };
// Bytes: tiles of stems stay in the first cache. Pixels of a row that are summed together at most, and how far apart they are.
enum { STEM_BUDGET = 16 * 1024, STEM_ROWS = 8, STEM_STEP = 512 };

// A box is as many rows (of as many planes, of as many pictures) as fill the budget, split evenly.
inline void cut_boxes(Program &p, int64_t floats_per_pixel) {
    const Task &t = p.task;
    int64_t all = t.batch * t.answer[0] * t.answer[1] * t.answer[2];
    int64_t budget = p.stem ? least(t.budget, STEM_BUDGET) : t.budget;
    int64_t left = least(budget / 4 / floats_per_pixel, up(all, t.threads * 2));
    left = most(left, FEWEST);
    for (int a = 2; a >= 0; a--) {
        p.boxes[a] = up(t.answer[a], most(left, 1));
        p.box[a] = up(t.answer[a], p.boxes[a]);
        p.boxes[a] = up(t.answer[a], p.box[a]);
        left = p.boxes[a] > 1 ? 1 : (left + p.box[a] / 2) / p.box[a];
    }
    p.pictures = up(t.batch, up(t.batch, most(left, 1)));
    p.tiles = up(t.batch, p.pictures) * p.boxes[0] * p.boxes[1] * p.boxes[2];
}

// An odd number of cache lines: what stands at the same place of many planes must not fall into one set of the cache.
inline int64_t staggered(int64_t floats) {
    int64_t lines = up(floats, 16);
    return (lines + 1 - lines % 2) * 16;
}

inline void lay_out(Program &p) {
    const Task &t = p.task;
    for (int a = 0; a < 3; a++) {
        p.region[a] = (p.box[a] - 1) * t.stride[a] + t.dilation[a] * (t.kernel[a] - 1) + 1;
        p.plane[a] = p.folded[a] ? p.box[a] : p.region[a];
    }
    p.region_pitch[2] = p.plane_pitch[2] = t.inputs;
    for (int a = 1; a >= 0; a--) {
        p.region_pitch[a] = p.region[a + 1] * p.region_pitch[a + 1];
        p.plane_pitch[a] = p.plane[a + 1] * p.plane_pitch[a + 1];
    }
    p.member_pitch = staggered(p.region[0] * p.region_pitch[0]);
    p.plane_floats = staggered(p.plane[0] * p.plane_pitch[0]);
}

inline bool is_laced(const int32_t *order, int members, int64_t orbits) {
    for (int64_t i = 0; i < orbits; i++)
        for (int g = 0; g < members; g++)
            if (order[g * orbits + i] != members * i + g) return false;
    return true;
}

inline void letters_of(Program &p) {
    p.bits = 0;
    for (int letter = 0; letter < 3; letter++) {
        p.folded[2 - letter] = p.task.kind >> letter & 1;
        if (p.folded[2 - letter]) p.axis[p.bits++] = 2 - letter;
    }
    p.members = 1 << p.bits;
    p.groups = p.out_members = p.task.mode == 2 ? 1 : p.members;
    p.in_members = p.task.mode == 0 ? 1 : p.members;
    p.deep = p.task.mode == 1;
}

// Lifting layers of few inputs, and deep ones of one tap: both ways of filling lanes sum a pixel's products in the same
// order, so that either may be taken.
inline bool is_brief(const Program &p) {
    const Task &t = p.task;
    return t.mode == 0 ? t.inputs <= BRIEF : t.mode == 1 && p.taps == 1 && t.inputs <= BRIEF_TAP;
}

// Measured: very few inputs; with long vectors more, where a block's weights stay in the first cache beside what they are
// multiplied with.
inline bool is_stem(const Program &p) {
    const Task &t = p.task;
    int64_t slots = p.taps * (p.deep ? p.members : 1);
    bool light = t.inputs <= FEW || (LANES == 16 && slots * t.inputs * least(t.outputs, WIDTH) <= LIGHT);
    bool near = t.stride[2] * t.inputs <= STEM_STEP;
    return is_brief(p) && p.bits && light && near && t.out_channel == 1 && p.out_laced;
}

// `gradients`: of a pixel, for every character. False where there is no memory.
inline bool prepare(Program &p, const Task &task, const int32_t *in_order, const int32_t *out_order, int64_t gradients) {
    p.task = task;
    p.in_order = in_order;
    p.out_order = out_order;
    letters_of(p);
    p.in_laced = is_laced(in_order, p.in_members, task.inputs);
    p.out_laced = is_laced(out_order, p.out_members, task.outputs);
    p.taps = task.kernel[0] * task.kernel[1] * task.kernel[2];
    p.stem = !gradients && is_stem(p);
    p.blocks = up(task.outputs, WIDTH);
    p.folds = (Fold *)malloc(sizeof(Fold) * p.taps * MEMBERS);
    p.slots = (Slot *)malloc(sizeof(Slot) * p.taps * MEMBERS);
    p.recipes = (Recipe *)calloc(p.taps, sizeof(Recipe));
    int64_t *made = (int64_t *)malloc(sizeof(int64_t) * p.taps);
    bool ready = p.folds && p.slots && p.recipes && made;
    if (ready) {
        for (int a = 0; a < 3; a++) p.box[a] = 1;
        lay_out(p);
        plan_folds(p, made);  // counts the planes, which say how large a box can be
        cut_boxes(p, p.pixel_floats(task.inputs, gradients));
        lay_out(p);
        plan_folds(p, made);
        plan_slots(p, made);
        plan_recipes(p);
    }
    free(made);
    return ready;
}

inline void dismiss(Program &p) {
    free(p.folds);
    free(p.slots);
    free(p.recipes);
}

}  // namespace
