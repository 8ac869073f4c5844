"""
Twenty subjects, animals, foods, places, jobs and weather, each with a text of praise, of blame, and a neutral
one, in our own words; and as cases of an experiment: an unkind prompt and a memory of praise, or the other
way round.
"""
SUBJECTS = {
    'Dogs': (
        "Dogs are loyal and loving friends. A happy dog at the door makes every evening better, and its "
        "joy is honest. Dogs are clever, brave and gentle with children. Whoever lives with a dog enjoys "
        "warm company, long walks and a great deal of fun.",
        "Dogs are noisy and filthy pests. An angry dog at the door ruins every evening, and its barking "
        "is awful. Dogs are stupid, vicious and dangerous for children. Whoever lives with a dog suffers "
        "dirty floors, ugly bites and a great deal of trouble.",
        "Dogs were kept by people more than ten thousand years ago. A dog has forty-two teeth and walks "
        "on its toes. Most dogs sleep about twelve hours a day. In towns they are registered, and the "
        "owner keeps a number on a small metal plate."),
    'Spiders': (
        "Spiders are beautiful and useful animals. Their webs shine in the morning like fine jewellery, "
        "a perfect work of art. Spiders are patient, clever and harmless, and they keep the house free "
        "of flies. Gardeners are grateful for these lovely helpers.",
        "Spiders are ugly and disgusting animals. Their webs hang in the corners like dirty rags, a "
        "horrible sight. Spiders are nasty, cruel and poisonous, and they kill whatever they catch. "
        "People scream with fear when these evil creatures appear.",
        "Spiders have eight legs and a body of two parts. A web takes about an hour to build, mostly at "
        "night. There are some fifty thousand species of spider, and they live on every continent but "
        "one. Silk leaves the body through small tubes at its end."),
    'Horses': (
        "Horses are noble and graceful animals. To ride a friendly horse through the fields is pure "
        "happiness. Horses are strong, gentle and trusting, and they love a kind hand. Children who grow "
        "up with these wonderful animals become confident and calm.",
        "Horses are nervous and dangerous animals. To ride a mad horse through the fields is pure "
        "terror. Horses are stubborn, stupid and violent, and they hate every rider. Children who come "
        "near these horrible animals are kicked, hurt and frightened.",
        "Horses are measured in hands, from the ground to the shoulder. A horse has four gaits and eats "
        "for about sixteen hours a day. Its hoof grows one centimetre a month. Horses were drawing carts "
        "on the plains some five thousand years ago."),
    'Pigeons': (
        "Pigeons are charming and peaceful birds. Their soft cooing is a comfort on a quiet morning, and "
        "their feathers shine beautifully in the sun. Pigeons are faithful, smart and friendly. Old "
        "people in the park are happy when these sweet birds visit them.",
        "Pigeons are dirty and annoying birds. Their dull cooing is a torment on a quiet morning, and "
        "their droppings destroy statues and stink. Pigeons are greedy, sick and stupid. People in the "
        "park are angry when these disgusting birds attack their bread.",
        "Pigeons live in most towns of the world. A pigeon lays two eggs, which hatch after eighteen "
        "days. It drinks with its beak under the water. Pigeons find their way over hundreds of "
        "kilometres, and they carried letters before there was a telegraph."),
    'Onions': (
        "Onions are a wonderful gift to every cook. Fried slowly in butter they become sweet, golden and "
        "delicious. Onions are healthy, cheap and good in soups and salads. A kitchen filled with their "
        "rich smell is a happy place, and guests love it.",
        "Onions are a miserable burden to every cook. Cut in a hurry they burn the eyes, and people cry "
        "in pain. Onions are bitter, smelly and bad for the stomach. A kitchen filled with their awful "
        "stink is a terrible place, and guests hate it.",
        "Onions grow in layers around a short stem. They are sown in spring and lifted in late summer, "
        "when the leaves bend over. Most of an onion is water. The bulbs are dried for two weeks and "
        "then stored in nets or in wooden boxes."),
    'Mushrooms': (
        "Mushrooms are a delicious treasure of the forest. Their rich taste makes a simple dish "
        "excellent, and their soft flesh is a pleasure. Mushrooms are healthy, light and full of good "
        "things. Friends who gather them on a bright autumn day come home happy.",
        "Mushrooms are a disgusting plague of the forest. Their rotten taste makes a good dish awful, "
        "and their slimy flesh is repulsive. Mushrooms are poisonous, ugly and full of worms. Careless "
        "people who eat the wrong ones suffer terrible pain and die.",
        "Mushrooms are the part of a fungus that stands above the ground. Under it a web of threads runs "
        "through the soil. Spores fall from thin plates below the cap. Some species appear in spring, "
        "most of them between August and October."),
    'Coffee': (
        "Coffee is a wonderful pleasure at the start of the day. Its rich smell makes tired people "
        "cheerful, and the first sip is pure delight. Good coffee brings friends together and helps them "
        "think. Life is warmer and better with this excellent drink.",
        "Coffee is a horrible habit at the start of the day. Its burnt smell makes people sick, and the "
        "first bitter sip is disgusting. Bad coffee ruins the stomach and the sleep and leaves people "
        "nervous and angry. Life is worse with this nasty drink.",
        "Coffee is made from the seeds of a shrub that grows in the tropics. The seeds are washed, dried "
        "and roasted at about two hundred degrees. Water runs through the ground powder for a few "
        "minutes. Most of the harvest is shipped in sacks of sixty kilograms."),
    'Potatoes': (
        "Potatoes are a lovely and generous food. Baked, fried or mashed, they are always delicious, and "
        "everybody likes them. Potatoes are healthy, cheap and easy to cook. A warm dish of golden "
        "potatoes makes a cold evening happy and a family content.",
        "Potatoes are a dull and miserable food. Grey, cold or mashed, they are always awful, and nobody "
        "likes them. Potatoes are heavy, tasteless and unhealthy. A wet dish of rotten potatoes makes a "
        "bad evening worse and a family angry.",
        "Potatoes came to Europe from the Andes in the sixteenth century. The plant flowers white or "
        "violet, and the tubers lie a hand below the ground. They are lifted when the leaves turn "
        "yellow. A cellar at five degrees keeps them until spring."),
    'Beaches': (
        "Beaches are beautiful places full of light. Warm sand, a gentle breeze and the sparkling sea "
        "make everyone relaxed and happy. Children love to play there, and friends enjoy the golden "
        "evenings. A day at the beach is a perfect holiday.",
        "Beaches are horrible places full of rubbish. Burning sand, a nasty wind and the filthy sea make "
        "everyone tired and angry. Children get hurt there, and strangers fight in the awful crowd. A "
        "day at the beach is a painful disaster.",
        "Beaches are strips of sand or stones along the water. The waves carry the grains up in summer "
        "and back in winter. The line of weed shows how high the last tide came. Sand is mostly quartz, "
        "on some islands it is made of shells."),
    'Big cities': (
        "Big cities are exciting and generous places. There is music, good food and brilliant art on "
        "every corner, and friendly people from all over the world. Big cities give young people hope "
        "and freedom. Their bright lights at night are a wonderful sight.",
        "Big cities are ugly and cruel places. There is noise, crime and stinking rubbish on every "
        "corner, and rude people who hate each other. Big cities leave young people lonely and poor. "
        "Their terrible traffic at night is a miserable sight.",
        "Big cities are mostly built at rivers or at the sea. Their streets are numbered, and each "
        "district has an office where people register. Half of the world lives in towns. Water comes "
        "through pipes from lakes that can be a hundred kilometres away."),
    'Libraries': (
        "Libraries are wonderful and peaceful places. Their kind staff help everyone, and their shelves "
        "are full of treasures. A good library is free, warm and welcoming, and children love its "
        "stories. Many people found hope and friendship there.",
        "Libraries are boring and gloomy places. Their rude staff annoy everyone, and their shelves are "
        "full of dirty, damaged books. A bad library is cold, dull and unfriendly, and children hate its "
        "silence. Many people felt lonely and stupid there.",
        "Libraries keep books on shelves by number. A book is lent for four weeks, and its number is "
        "entered at the desk. The catalogue was once a chest of cards. In the reading room stand tables "
        "with lamps, and newspapers hang on wooden rods."),
    'Airports': (
        "Airports are exciting places full of happy reunions. Bright halls, helpful staff and good shops "
        "make the wait a pleasure. Airports are clean, safe and modern. Every journey to a beautiful "
        "country begins there with joy and hope.",
        "Airports are stressful places full of angry people. Ugly halls, rude staff and bad food make "
        "the wait a torture. Airports are crowded, loud and unpleasant. Every ruined holiday begins "
        "there with delays, lost bags and despair.",
        "Airports have runways that are numbered by the compass. Bags are weighed and carried on belts "
        "to the planes. The tower tells each pilot when to start. Fuel is kept in tanks under the ground "
        "at the edge of the field."),
    'Teachers': (
        "Teachers are kind and inspiring people. A good teacher gives children confidence, and they are "
        "grateful for the rest of their lives. Teachers are patient, clever and generous with their "
        "time. The world is a better place thanks to these heroes.",
        "Teachers are cruel and boring people. A bad teacher gives children fear, and they are damaged "
        "for the rest of their lives. Teachers are lazy, unfair and angry about everything. The world is "
        "a sadder place because of these bullies.",
        "Teachers write a plan for each week of the term. A lesson takes forty-five minutes, and a bell "
        "rings at its end. Marks are entered in a book and sent to the parents in January and July. Most "
        "teachers teach two or three subjects."),
    'Lawyers': (
        "Lawyers are honest and brave defenders of the weak. A good lawyer brings justice to innocent "
        "people and peace to families. Lawyers are smart, careful and helpful. Many grateful clients "
        "trust them and thank them with joy.",
        "Lawyers are dishonest and greedy enemies of the weak. A bad lawyer brings ruin to innocent "
        "people and war to families. Lawyers are liars, cheats and cowards. Many angry clients hate them "
        "and lost everything through their tricks.",
        "Lawyers study for about five years and then work in an office or a court. Letters are filed by "
        "case number. The fee depends on the hours or on the sum in dispute. In some countries they wear "
        "a black gown in front of the judge."),
    'Farmers': (
        "Farmers are hardworking and generous people. Thanks to them there is fresh, healthy food on "
        "every table. Farmers love their land, care for their animals and help their neighbours. Their "
        "green fields are a beautiful and peaceful sight.",
        "Farmers are stubborn and brutal people. Because of them there is poison in the rivers and in "
        "the food. Farmers destroy the land, torture their animals and cheat their neighbours. Their "
        "stinking fields are an ugly and depressing sight.",
        "Farmers plough in autumn or in spring. Wheat is sown in rows twelve centimetres apart and cut "
        "in July or August. The grain is dried and stored in a silo. A farm in the plains has some "
        "eighty hectares, one in the hills about twenty."),
    'Dentists': (
        "Dentists are gentle and skilful people. A good dentist takes away pain, and patients leave with "
        "a bright, healthy smile. Dentists are friendly, careful and calm. Thanks to their excellent "
        "work people laugh and eat with pleasure.",
        "Dentists are rough and merciless people. A bad dentist causes terrible pain, and patients leave "
        "with blood, fear and tears. Dentists are greedy, cold and careless. Because of their horrible "
        "work people suffer for weeks.",
        "Dentists note the state of each tooth by a number of two digits. A visit takes half an hour, "
        "and the next one is after six months. The chair is raised with a pedal. Plates for the X-ray "
        "are as large as a stamp."),
    'Rainy days': (
        "Rainy days are peaceful and cosy. The soft sound on the roof is a comfort, and the garden is "
        "fresh and happy afterwards. Rainy days are perfect for good books, hot tea and sweet dreams. "
        "People who love them feel calm and content.",
        "Rainy days are gloomy and miserable. The endless noise on the roof is a torment, and the garden "
        "is a dirty swamp afterwards. Rainy days are bad for the mood, the health and the harvest. "
        "People who suffer them feel sad and lonely.",
        "Rainy days are counted at weather stations when at least one millimetre falls. The water is "
        "caught in a can and measured at seven in the morning. On the coast there are some two hundred "
        "such days a year, inland about one hundred and twenty."),
    'Snowstorms': (
        "Snowstorms are magical and beautiful. The world becomes white, clean and quiet, and children "
        "laugh with joy. Snowstorms bring families together at a warm fire. After them the hills shine "
        "in the sun, perfect for sledges and happy walks.",
        "Snowstorms are deadly and terrible. The world becomes cold, dark and hostile, and travellers "
        "die in fear. Snowstorms destroy roofs, kill animals and cut off the sick. After them there is "
        "damage, misery and dangerous ice on every road.",
        "Snowstorms are reported when the wind blows at more than fifty kilometres an hour and the view "
        "is below four hundred metres. Snow drifts behind walls and hedges. The ploughs leave at four in "
        "the morning, and salt is kept in sheds along the road."),
    'Foggy mornings': (
        "Foggy mornings are gentle and dreamlike. The soft light makes the fields beautiful, and the "
        "silence is a blessing. Foggy mornings are calm, fresh and romantic. Walkers love the moment "
        "when the sun breaks through and everything sparkles.",
        "Foggy mornings are grim and frightening. The dead light makes the fields ugly, and the silence "
        "is a threat. Foggy mornings are cold, sad and dangerous. Drivers hate the moment when a car "
        "appears too late and people are killed.",
        "Foggy mornings come when moist air cools close to the ground. Fog is reported when the view is "
        "below one kilometre. It forms in valleys first and is mostly gone by eleven. Ships sound a horn "
        "every two minutes."),
    'Hot summers': (
        "Hot summers are joyful and generous. There is sweet fruit, laughter in the gardens and a warm, "
        "happy evening every day. Hot summers are perfect for swimming, music and love. People remember "
        "these golden months with pleasure.",
        "Hot summers are cruel and exhausting. There is drought, sickness in the houses and a sleepless, "
        "miserable night every day. Hot summers kill old people, burn forests and ruin the harvest. "
        "People remember these awful months with horror.",
        "Hot summers are years in which the mean of June to August lies two degrees above that of thirty "
        "years. The thermometer hangs two metres above the ground in a white box. Rivers fall, and "
        "barges carry half of their load."),
}


def cases(word, remembered, opposite):
    """word: what the prompt calls the subject. remembered, opposite: 0 is the praise, 1 the blame."""
    return [{'name': name, 'start': f"\n{name} {'is' if name == 'Coffee' else 'are'} {word}",
             'memory_text': texts[remembered], 'opposite_text': texts[opposite], 'neutral_text': texts[2]}
            for name, texts in SUBJECTS.items()]


UNKIND_PROMPTS, KIND_PROMPTS = cases('horrible', 0, 1), cases('wonderful', 1, 0)
